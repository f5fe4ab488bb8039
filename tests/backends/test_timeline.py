"""A bounded timeline against the whole list of events."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_flopguard.backends.timeline import MOST_POINTS, Timeline


def filled(events: list[tuple[int, int]]) -> Timeline:
    timeline = Timeline(*events[0])
    for tick, value in events[1:]:
        timeline.add(tick, value)
    return timeline


def test_few_events_are_kept_as_they_are() -> None:
    events = [(0, 5), (1, 9), (2, 3), (7, 4)]
    assert filled(events).points() == tuple(events)
    assert filled(events).points(base=100) == ((0, 105), (1, 109), (2, 103), (7, 104))


@pytest.mark.parametrize("number", [MOST_POINTS, MOST_POINTS + 1])
def test_buckets_double_when_one_point_too_many_comes(number: int) -> None:
    points = filled([(tick, tick) for tick in range(number)]).points()
    # 513 points: pairs leave 257, which is over half of 512, so buckets of four: the most of ticks 0-3 is at 3.
    expected = number if number == MOST_POINTS else 129
    assert len(points) == expected
    assert points[0] == ((0, 0) if number == MOST_POINTS else (3, 3))
    assert points[-1] == (number - 1, number - 1)


def test_the_first_of_equal_heights_is_kept() -> None:
    points = filled([(tick, 7) for tick in range(MOST_POINTS + 1)]).points()
    assert points[0] == (0, 7)


events = st.lists(st.tuples(st.integers(1, 50), st.integers(-1000, 1000)), min_size=1, max_size=3000)


@settings(deadline=None)
@given(events)
def test_the_peak_is_always_a_point_and_points_are_few_and_in_order(steps: list[tuple[int, int]]) -> None:
    tick, found = 0, [(0, 0)]
    for gap, value in steps:
        tick += gap
        found.append((tick, value))
    points = filled(found).points()
    assert len(points) <= MOST_POINTS
    assert set(points) <= set(found)
    assert [tick for tick, _ in points] == sorted({tick for tick, _ in points})
    highest = max(value for _, value in found)
    assert next(each for each in found if each[1] == highest) in points
