"""Owners at the peak as text: folded layers, shares, the ten largest, and everything."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_flopguard.core.measurement import CATEGORIES, Measurement, MemoryPeak
from pytest_flopguard.core.owners import Owner, merged
from pytest_flopguard.core.record import Record
from pytest_flopguard.reporters.details import details
from pytest_flopguard.reporters.failure import render
from pytest_flopguard.reporters.owners_table import all_lines, holdings, largest, top_lines

MIB = 1024**2


def owner(category: str, module: str, size: int, op: str = "", site: str = "", blocks: int = 1) -> Owner:
    return Owner(category=category, module=module, op=op, site=site, bytes=size, blocks=blocks)


def peak_of(*owners: Owner) -> MemoryPeak:
    total = sum(each.bytes for each in owners)
    by_category = {name: sum(each.bytes for each in owners if each.category == name) for name in CATEGORIES}
    return MemoryPeak(
        device="cpu",
        backend="live-storage",
        start_bytes=0,
        peak_bytes=total,
        by_category=by_category,
        owners=merged(owners),
    )


@pytest.fixture
def peak() -> MemoryPeak:
    layers = [owner("activations", f"net.h.{n}", 10 * MIB, "aten.gelu", "net.py:7 in forward") for n in range(3)]
    more = [owner("activations", f"net.h.{n}", 2 * MIB, "aten.add", "net.py:8 in forward", blocks=2) for n in range(3)]
    # The one that is not like the others stays apart.
    odd = owner("activations", "net.h.3", 50 * MIB, "aten.bmm", "net.py:9 in forward")
    return peak_of(*layers, *more, odd, owner("parameters", "net.head", 14 * MIB), owner("inputs", "", 0, "aten.ones"))


def test_equal_layers_are_one_line_with_what_made_the_most(peak: MemoryPeak) -> None:
    # 3 * (10 + 2) + 50 + 14 = 100 MiB.
    assert list(top_lines(peak)) == [
        "   50.00%         50 MiB  activations  net.h.3  aten.bmm  net.py:9 in forward",
        "   36.00%         36 MiB  activations  net.h.0-2  x3  aten.gelu  net.py:7 in forward",
        "   14.00%         14 MiB  parameters  net.head",
        "    0.00%            0 B  inputs  (outside any module)  aten.ones",
    ]


def test_everything_keeps_each_maker_apart(peak: MemoryPeak) -> None:
    assert list(all_lines(peak)) == [
        "    52,428,800 B   50.00%  activations  net.h.3  1 block  aten.bmm  net.py:9 in forward",
        "    31,457,280 B   30.00%  activations  net.h.0-2  x3  3 blocks  aten.gelu  net.py:7 in forward",
        "    14,680,064 B   14.00%  parameters  net.head  1 block",
        "     6,291,456 B    6.00%  activations  net.h.0-2  x3  6 blocks  aten.add  net.py:8 in forward",
        "             0 B    0.00%  inputs  (outside any module)  1 block  aten.ones",
    ]


@pytest.mark.parametrize(("number", "rest"), [(10, None), (11, "    0.00%            1 B  in 1 more (-vv shows them)")])
def test_ten_are_shown(number: int, rest: str | None) -> None:
    # Names that do not fold.
    peak = peak_of(*(owner("activations", f"part{n}x", n * MIB + 1) for n in range(number)))
    lines = list(top_lines(peak))
    assert len(lines) == (10 if rest is None else 11)
    assert lines[-1].startswith("   <0.01%") if rest is None else lines[-1] == rest.replace("    0.00%", "   <0.01%")


def test_nothing_is_said_of_owners_that_are_not_known() -> None:
    peak = replace(peak_of(), peak_bytes=100)
    assert (list(top_lines(peak)), list(all_lines(peak)), largest(peak)) == ([], [], "")


def broken(build: SimpleNamespace, peak: MemoryPeak) -> Record:
    limit = build.limit("peak_memory", "99 MiB", "t.py:3", device="cpu")
    record: Record = build.record("t.py::t", Measurement(flops=build.tally(()), memory=(peak,)), limit)
    return record


def test_a_failure_tells_where_memory_was_held(build: SimpleNamespace, peak: MemoryPeak) -> None:
    text = render(broken(build, peak), verbosity=0)
    assert (
        "What cpu held at its peak of 100 MiB\n"
        "   86.00%         86 MiB  activations\n"
        "   14.00%         14 MiB  parameters\n"
        "Where it was held\n"
        "   50.00%         50 MiB  activations  net.h.3"
    ) in text
    assert "3 blocks" not in text
    assert "  x3  3 blocks  aten.gelu  net.py:7 in forward" in render(broken(build, peak), verbosity=2)


def test_quiet_stays_one_line(build: SimpleNamespace, peak: MemoryPeak) -> None:
    assert render(broken(build, peak), verbosity=-1) == (
        "peak memory on cpu: 100 MiB, over the limit of 99 MiB by 1 MiB (1.01%) [over-budget] t.py:3, "
        "most of it activations in net.h.3 (50.00%)"
    )


def test_details_hold_every_owner(build: SimpleNamespace, peak: MemoryPeak) -> None:
    lines = list(details(broken(build, peak)))
    at = lines.index("  where it was held on cpu")
    assert lines[at + 1 : at + 6] == list(all_lines(peak))


@settings(deadline=None)
@given(
    st.lists(
        st.builds(
            owner,
            st.sampled_from(CATEGORIES),
            st.sampled_from(["", "a", "h.0", "h.1", "h.2", "h.0.b", "h.1.b"]),
            st.integers(0, 5),
            st.sampled_from(["", "aten.mm"]),
            st.sampled_from(["", "m.py:1 in f"]),
        ),
        max_size=20,
    )
)
def test_folding_loses_no_byte_and_no_block(owners: list[Owner]) -> None:
    for each_maker in (False, True):
        found = holdings(merged(owners), each_maker=each_maker)
        assert sum(each.bytes for each in found) == sum(each.bytes for each in owners)
        assert sum(each.blocks for each in found) == len(owners)
