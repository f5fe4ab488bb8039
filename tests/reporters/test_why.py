"""Why memory moved: what was alive at the peak by category and module, with what made it and where."""

from __future__ import annotations

import re
from dataclasses import replace
from types import SimpleNamespace

from pytest_flopguard.core.memory_delta import HoldingDelta
from pytest_flopguard.core.record import Record
from pytest_flopguard.reporters import failure, html, why
from pytest_flopguard.reporters.memory_difference import holding_lines

HELD = "   50.00%          4 KiB  activations  layers.0-3.mlp  x4  aten.mm  model.py:41 in forward"


def test_what_was_alive_is_told_with_its_line_of_code(build: SimpleNamespace) -> None:
    lines = why.render(build.full(), verbosity=0).splitlines()
    start = lines.index("What sim:h100 held at its peak: peak memory 7 KiB -> 8 KiB (+1 KiB)")
    assert lines[start + 1 : start + 6] == [
        "         +4 KiB   57.14%  activations, before 0 B",
        "         +4 KiB   57.14%  optimizer state, before 0 B",
        "  all >= 8 KiB that were alive then, by category and module",
        HELD,
        "   50.00%          4 KiB  optimizer state  (outside any module)  aten._fused_adamw_",
    ]


def test_a_regression_of_memory_says_so_in_its_failure(build: SimpleNamespace) -> None:
    assert HELD in failure.render(build.full(), verbosity=0)
    assert "8 blocks" in failure.render(build.full(), verbosity=2)
    assert "model.py" not in failure.render(build.full(), verbosity=-1)


def with_modules(build: SimpleNamespace) -> Record:
    """The record below, and a baseline in which three layers held 512 B each and nothing was the optimizer's."""
    record: Record = build.full()
    assert record.baseline is not None
    accepted = replace(
        record.baseline.memory["sim:h100"],
        held={"activations": 1536, "inputs": 100},
        modules={"": {"inputs": 100}, "layers.0-2.mlp": {"activations": 1536}},
    )
    return replace(record, baseline=replace(record.baseline, memory={"sim:h100": accepted}))


def test_growth_is_told_by_module_with_equal_layers_folded(build: SimpleNamespace) -> None:
    lines = why.render(with_modules(build), verbosity=0).splitlines()
    start = lines.index("  by module")
    # Layers 0 to 2 held 512 B and hold 1,024; layer 3 held nothing. Of the 7 KiB before.
    assert lines[start + 1 : start + 6] == [
        "         +4 KiB   57.14%  optimizer state  (outside any module), before 0 B",
        "       +1.5 KiB   21.43%  activations  layers.0-2.mlp  x3, before 1.5 KiB",
        "         +1 KiB   14.29%  activations  layers.3.mlp, before 0 B",
        "         -100 B    1.40%  inputs  (outside any module), before 100 B",
        "  all >= 8 KiB that were alive then, by category and module",
    ]
    assert "activations  layers.0-2.mlp  x3, before 1,536 B" in why.render(with_modules(build), verbosity=2)


def test_one_layer_that_stands_for_another_is_told_only_in_full(build: SimpleNamespace) -> None:
    record = with_modules(build)
    assert record.baseline is not None
    accepted = replace(
        record.baseline.memory["sim:h100"],
        held={"activations": 4096},
        modules={"layers.0-2.mlp": {"activations": 3072}, "layers.4.mlp": {"activations": 1024}},
    )
    moved = replace(record, baseline=replace(record.baseline, memory={"sim:h100": accepted}))
    lines = why.render(moved, verbosity=0).splitlines()
    start = lines.index("  by module")
    assert lines[start + 1 : start + 3] == [
        "         +4 KiB   57.14%  optimizer state  (outside any module), before 0 B",
        "                 2 more in which one layer stands for another (-vv shows them)",
    ]
    full = why.render(moved, verbosity=2)
    assert "activations  layers.3.mlp, before 0 B" in full
    assert "activations  layers.4.mlp, before 1,024 B" in full
    assert "2 more in which one layer stands for another." in html.render(build.run_of(moved))


def test_the_ten_largest_growths_and_the_rest_in_one_line() -> None:
    delta = [
        HoldingDelta(category="activations", path=f"part{i}", modules=1, before=0, now=1000 - i) for i in range(12)
    ]
    lines = list(holding_lines(delta, 0))
    assert len(lines) == 11
    # 990 + 989.
    assert lines[-1] == "    +1.93 KiB  in 2 more places (-vv shows them)"
    assert len(list(holding_lines(delta, 0, verbosity=2))) == 12


def test_one_line_names_the_module_of_the_largest_growth(build: SimpleNamespace) -> None:
    record = with_modules(build)
    assert record.baseline is not None
    plain = replace(record.baseline, flops=None, modules={})
    still = replace(record, measurement=replace(record.measurement, flops=None), baseline=plain)
    expected = "optimizer state on sim:h100: +4 KiB (+1 KiB in all), all of it in (outside any module)"
    assert why.headline(still) == expected
    old = replace(plain, memory={"sim:h100": replace(plain.memory["sim:h100"], modules={})})
    assert why.headline(replace(still, baseline=old)) == "optimizer state on sim:h100: +4 KiB (+1 KiB in all)"


def test_where_only_memory_is_over_its_cause_comes_first(build: SimpleNamespace) -> None:
    record = with_modules(build)
    over = [each for each in record.findings if each.code == "over-baseline"]
    assert {each.expectation.quantity for each in over} == {"flops", "peak_memory"}
    flops = "new: layers.3, 3 kFLOP"
    assert why.headline(record) == flops
    of_memory = tuple(each for each in over if each.expectation.quantity == "peak_memory")
    memory = "optimizer state on sim:h100: +4 KiB (+1 KiB in all), all of it in (outside any module)"
    assert why.headline(replace(record, findings=of_memory)) == f"{memory}; {flops}"


def test_the_page_has_it_as_a_table(build: SimpleNamespace) -> None:
    text = html.render(build.run_of(with_modules(build)))
    assert re.search(r"<details open>\s*<summary>Against the baseline, memory on sim:h100 by module", text)
    assert "Against the baseline, memory on" not in html.render(build.run_of(build.full()))


def test_memory_that_is_as_before_is_not_told(build: SimpleNamespace) -> None:
    record = build.full()
    accepted = record.baseline.memory["sim:h100"]
    same = replace(record.baseline, memory={"sim:h100": replace(accepted, peak=8192)})
    assert "alive then" not in why.render(replace(record, baseline=same), verbosity=0)
