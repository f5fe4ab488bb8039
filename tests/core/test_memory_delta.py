"""Memory at a peak against that of a baseline, module by module."""

from __future__ import annotations

from dataclasses import replace

from pytest_flopguard.core.baseline import MemoryBaseline, baseline_of
from pytest_flopguard.core.measurement import Measurement, MemoryPeak
from pytest_flopguard.core.memory_delta import HoldingDelta, memory_delta, memory_delta_between, without_moves
from pytest_flopguard.core.owners import Owner, summed


def owner(category: str, module: str, size: int, op: str = "aten.mm") -> Owner:
    return Owner(category=category, module=module, op=op, site="", bytes=size, blocks=1)


def peak_of(*owners: Owner, **more: object) -> MemoryPeak:
    return replace(
        MemoryPeak(
            device="cpu",
            backend="b",
            start_bytes=0,
            peak_bytes=sum(each.bytes for each in owners),
            by_category=summed(owners, lambda each: each.category),
            owners=owners,
        ),
        **more,  # type: ignore[arg-type]
    )


def accepted_of(peak: MemoryPeak) -> MemoryBaseline:
    return baseline_of(Measurement(memory=(peak,)), "2.13.0").memory["cpu"]


LAYERS = [owner("parameters", f"Net.layers.{i}", 100) for i in range(3)]
SMALL = peak_of(*LAYERS, owner("activations", "Net.layers.0", 7), owner("activations", "Net.layers.0", 3, "aten.add"))


def row(category: str, path: str, before: int, now: int, modules: int = 1) -> HoldingDelta:
    return HoldingDelta(category=category, path=path, modules=modules, before=before, now=now)


def test_a_baseline_keeps_what_each_module_held_with_equal_layers_folded() -> None:
    accepted = accepted_of(SMALL)
    # 7 + 3 of two ops of one module; layers 1 and 2 hold the same, 100 each.
    assert accepted.modules == {
        "Net.layers.0": {"parameters": 100, "activations": 10},
        "Net.layers.1-2": {"parameters": 200},
    }
    assert accepted.held == {"parameters": 300, "activations": 10}


def test_owners_that_do_not_sum_to_the_categories_are_not_kept() -> None:
    assert accepted_of(peak_of(*LAYERS, by_category={"parameters": 301})).modules == {}
    assert accepted_of(peak_of(*LAYERS, by_category={})).modules == {}


def test_what_is_the_same_does_not_differ() -> None:
    assert memory_delta(accepted_of(SMALL), SMALL) == ()


def test_each_category_of_a_module_stands_alone_the_largest_difference_first() -> None:
    now = peak_of(
        *(replace(each, bytes=150) for each in LAYERS),
        owner("activations", "Net.layers.0", 4),
        owner("gradients", "Net.head", 500),
    )
    # Gradients 0 -> 500; parameters 3 * 100 -> 3 * 150; activations 10 -> 4.
    assert memory_delta(accepted_of(SMALL), now) == (
        row("gradients", "Net.head", 0, 500),
        row("parameters", "Net.layers.0-2", 300, 450, modules=3),
        row("activations", "Net.layers.0", 10, 4),
    )


def test_layers_that_came_or_went_are_told_by_their_numbers() -> None:
    more = peak_of(*SMALL.owners, *(owner("parameters", f"Net.layers.{i}", 100) for i in (3, 4)))
    assert memory_delta(accepted_of(SMALL), more) == (row("parameters", "Net.layers.3-4", 0, 200, modules=2),)
    assert memory_delta(accepted_of(more), SMALL) == (row("parameters", "Net.layers.3-4", 200, 0, modules=2),)


def test_what_was_not_kept_before_cannot_be_compared() -> None:
    old = MemoryBaseline(start=0, peak=310, torch="2.13", held={"parameters": 300, "activations": 10})
    assert memory_delta(old, peak_of(*LAYERS)) == ()
    assert memory_delta(accepted_of(SMALL), replace(SMALL, owners=())) == ()
    assert memory_delta_between(old, accepted_of(SMALL)) == ()


def test_a_peak_that_moves_to_another_layer_is_no_growth_there() -> None:
    five = peak_of(
        *(owner("parameters", f"Net.layers.{i}", 100) for i in range(5)),
        owner("activations", "Net.layers.4", 10),
        owner("activations", "Net.head4", 3),
    )
    found = memory_delta(accepted_of(SMALL), five)
    moved = {row("activations", "Net.layers.0", 10, 0), row("activations", "Net.layers.4", 0, 10)}
    assert moved < set(found)
    # Layers 3 and 4 are new: nothing took their place elsewhere. A name that ends in a digit is no layer number.
    assert without_moves(found) == (
        row("parameters", "Net.layers.3-4", 0, 200, modules=2),
        row("activations", "Net.head4", 0, 3),
    )
    # One byte more, and it is no mere move.
    grown = memory_delta(accepted_of(SMALL), peak_of(*LAYERS, owner("activations", "Net.layers.2", 11)))
    assert without_moves(grown) == grown
    assert len(grown) == 2


def test_two_baselines_differ_as_a_baseline_and_a_run_do() -> None:
    grown = peak_of(*(replace(each, bytes=150) for each in LAYERS))
    assert memory_delta_between(accepted_of(SMALL), accepted_of(grown)) == memory_delta(accepted_of(SMALL), grown)
