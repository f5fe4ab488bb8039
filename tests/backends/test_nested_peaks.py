from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_flopguard.backends.nested_peaks import NestedPeaks, Reading, Span


class Counter:
    """Counters as an allocator keeps them: bytes now, and the peak since the last reset."""

    def __init__(self, now: int = 0) -> None:
        self.now = self.peak = now

    def change(self, size: int) -> None:
        self.now = max(0, self.now + size)
        self.peak = max(self.peak, self.now)

    def read(self) -> dict[int, Reading]:
        return {0: Reading(current={"allocated": self.now}, peak={"allocated": self.peak})}


class Watched:
    """A counter, its regions, and the same regions followed one change at a time."""

    def __init__(self, now: int = 0) -> None:
        self.counter = Counter(now)
        self.regions = NestedPeaks()
        self.truth: list[tuple[Span, list[int]]] = []

    def open(self) -> Span:
        span = self.regions.open(self.counter.read())
        self.counter.peak = self.counter.now  # the reset that its owner makes
        self.truth.append((span, [self.counter.now]))
        return span

    def change(self, size: int) -> None:
        self.counter.change(size)
        for _, seen in self.truth:
            seen.append(self.counter.now)

    def close(self, position: int) -> tuple[int, int, list[int]]:
        span, seen = self.truth.pop(position)
        self.regions.close(span, self.counter.read())
        return span.start[0]["allocated"], span.peak[0]["allocated"], seen


def test_an_inner_region_does_not_make_the_outer_one_forget() -> None:
    watched = Watched(now=100)
    watched.open()
    watched.change(+40)  # 140, the outer peak so far
    watched.change(-40)
    watched.open()
    watched.change(+20)  # 120, the inner peak
    assert watched.close(1)[:2] == (100, 120)
    watched.change(-20)
    assert watched.close(0)[:2] == (100, 140)
    assert not watched.regions


def test_the_outer_peak_may_lie_inside_the_inner_region() -> None:
    watched = Watched()
    watched.open()
    watched.change(+5)
    watched.open()
    watched.change(+7)
    watched.change(-12)
    assert watched.close(1)[:2] == (5, 12)
    watched.open()
    watched.change(+3)
    assert watched.close(1)[:2] == (0, 3)
    assert watched.close(0)[:2] == (0, 12)


def test_a_device_that_appears_later_has_no_start() -> None:
    regions = NestedPeaks()
    span = regions.open({})
    regions.close(span, {1: Reading(current={"allocated": 0}, peak={"allocated": 8})})
    assert span.start == {}
    assert span.peak == {1: {"allocated": 8}}


def test_clear_forgets_regions_that_never_ended() -> None:
    regions = NestedPeaks()
    span = regions.open({})
    assert len(regions) == 1
    regions.clear()
    assert len(regions) == 0
    with pytest.raises(ValueError, match="not in list"):
        regions.close(span, {})


@given(st.lists(st.one_of(st.just("open"), st.integers(0, 5).map(lambda n: f"close {n}"), st.integers(-50, 50))))
def test_any_order_gives_the_peaks_of_someone_who_looks_all_the_time(steps: list[str | int]) -> None:
    watched = Watched(now=30)
    ended = []
    for step in steps:
        if step == "open":
            watched.open()
        elif isinstance(step, int):
            watched.change(step)
        elif watched.truth:
            ended.append(watched.close(int(step.split()[1]) % len(watched.truth)))
    ended += [watched.close(-1) for _ in range(len(watched.truth))]
    for start, peak, seen in ended:
        assert (start, peak) == (seen[0], max(seen))
