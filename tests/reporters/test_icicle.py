"""The icicle: blocks as wide as their costs, one for equal layers, and labels that fit."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_flopguard.core.units import Unit
from pytest_flopguard.reporters.icicle import WIDTH, blocks, chart

COSTS = {"h.0.mlp": 30, "h.1.mlp": 30, "h.0.attn": 10, "h.0.attn.proj": 5, "h.1.attn": 10, "h.1.attn.proj": 5, "": 10}


def laid(costs: dict[str, int], **options: int) -> list[tuple[str, int, int, int]]:
    return [(each.path, each.depth, each.start, each.size) for each in blocks(costs, **options)]


def test_blocks_stand_inside_one_another_the_dearest_on_the_left() -> None:
    assert laid(COSTS) == [
        ("all", 0, 0, 100),
        ("h.0-1", 1, 0, 90),
        ("h.0-1.mlp", 2, 0, 60),
        # 2 * 10 of its own and 2 * 5 inside; what is its own is the room below it.
        ("h.0-1.attn", 2, 60, 30),
        ("h.0-1.attn.proj", 3, 60, 10),
        ("(outside any module)", 1, 90, 10),
    ]


def test_the_first_row_can_stay_by_itself() -> None:
    assert laid({"a.b.c": 3}) == [("all", 0, 0, 3), ("a.b.c", 1, 0, 3)]
    assert laid({"a.b.c": 3}, joined_from=2) == [("all", 0, 0, 3), ("a", 1, 0, 3), ("a.b.c", 2, 0, 3)]


def test_nothing_is_no_chart() -> None:
    assert blocks({}) == []
    assert chart({}, Unit.FLOP) is None
    assert chart({"a": 0}, Unit.FLOP) is None


def test_labels_are_cut_to_their_block_and_blocks_that_nobody_could_see_left_out() -> None:
    drawn = chart({"big": 1_000_000, "a_name_longer_than_its_block": 20_000, "tiny": 1}, Unit.FLOP)
    assert drawn is not None
    values = {each["told"].partition(":")[0]: each for each in drawn["data"]["values"]}
    assert set(values) == {"all", "big", "a_name_longer_than_its_block"}
    assert values["big"]["label"] == "big: 1 MFLOP, 98.04%"
    assert values["a_name_longer_than_its_block"]["label"] == ""
    assert values["big"]["told"] == "big: 1 MFLOP, 98.04%"
    assert values["all"]["right"] == pytest.approx(WIDTH)


paths = st.dictionaries(
    st.lists(st.sampled_from(["a", "b", "0", "1", "2"]), max_size=4).map(".".join), st.integers(0, 10**15), max_size=12
)


@given(paths)
def test_no_two_blocks_of_a_row_overlap_and_each_is_inside_its_parent(costs: dict[str, int]) -> None:
    found = blocks(costs)
    assert (found[0].size if found else 0) == sum(costs.values())
    for depth in range(1, 6):
        row = sorted((each for each in found if each.depth == depth), key=lambda each: each.start)
        assert all(a.start + a.size <= b.start for a, b in pairwise(row))
        above = [each for each in found if each.depth == depth - 1]
        assert all(
            any(up.start <= each.start and each.start + each.size <= up.start + up.size for up in above) for each in row
        )
