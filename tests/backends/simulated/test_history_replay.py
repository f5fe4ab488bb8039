"""Recordings of the plain allocator, replayed through the model; and every way of breaking one is told."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import count

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plain_allocator import KIB, MIB, PlainAllocator

from pytest_flopguard.backends.simulated.history import FREE, History
from pytest_flopguard.backends.simulated.history_replay import replay
from pytest_flopguard.backends.simulated.recording import history_of

SETTINGS = {
    "default": {},
    "expandable": {"expandable": True},
    "divisions": {"divisions": 8},
    "split": {"max_split": 20 * MIB},
}
SIZES = st.one_of(
    st.sampled_from([1, 512, 513, MIB, MIB + 1, 2 * MIB + 5, 10 * MIB, 20 * MIB, 37 * MIB]),
    st.integers(1, 64 * KIB),
    st.integers(1, 40 * MIB),
)
STEPS = st.one_of(
    st.tuples(st.just("malloc"), SIZES, st.sampled_from([0, 5, 9])),
    st.tuples(st.just("malloc"), SIZES, st.just(0)),
    st.tuples(st.just("free"), st.integers(0, 1000), st.booleans()),
    st.tuples(st.just("finish"), st.just(0), st.just(0)),
    st.tuples(st.just("empty"), st.just(0), st.just(0)),
)


class Program:
    """Steps run on a plain allocator."""

    def __init__(self, plain: PlainAllocator) -> None:
        self.plain = plain
        self.live: list[int] = []
        self.waiting: list[int] = []

    def run(self, steps: list[tuple[str, int, int]]) -> None:
        for action, number, more in steps:
            if action == "malloc":
                self.live.append(self.plain.malloc(number, more))
            elif action == "free" and self.live:
                address = self.live.pop(number % len(self.live))
                self.plain.free(address, waits=bool(more))
                self.waiting += [address] if more else []
            elif action in ("finish", "empty"):
                for address in self.waiting:
                    self.plain.finish(address)
                self.waiting.clear()
                if action == "empty":
                    self.plain.empty_cache()


def falling(expandable: bool) -> Iterator[int]:
    """Addresses that fall, as a driver may choose them: only the recording knows them."""
    return count(0x7F00_0000_0000 << 8 if expandable else 0x7F00_0000_0000, -(1 << 45 if expandable else 1 << 30))


def recorded(
    settings: str, before: list[tuple[str, int, int]], steps: list[tuple[str, int, int]], knows_start: bool
) -> History:
    options = SETTINGS[settings]
    plain = PlainAllocator(falling("expandable" in options), **options)
    program = Program(plain)
    program.run(before)
    plain.trace.clear()
    plain.peaks = dict(plain.totals())
    start = plain.plain_segments() if knows_start else None
    program.run(steps)
    stats = {f"{name}_bytes.all.peak": value for name, value in plain.peaks.items()} if knows_start else None
    return history_of({**plain.snapshot(), "device_traces": [[*plain.trace, SEEN]]}, start=start, stats=stats)


SEEN = {"action": "snapshot", "addr": 0, "size": 0, "stream": 0}


@pytest.mark.parametrize("settings", SETTINGS)
@hypothesis.settings(deadline=None, max_examples=60)
@given(before=st.lists(STEPS, max_size=25), steps=st.lists(STEPS, max_size=40))
def test_a_recording_with_its_start_is_followed_to_the_byte(
    settings: str, before: list[tuple[str, int, int]], steps: list[tuple[str, int, int]]
) -> None:
    history = recorded(settings, before, steps, knows_start=True)
    report = replay(history)
    assert report.mismatches == ()
    assert report.allocations == sum(event[0] == "alloc" for event in history.events)
    assert report.partial_releases == 0


@pytest.mark.parametrize("settings", SETTINGS)
@hypothesis.settings(deadline=None, max_examples=60)
@given(before=st.lists(STEPS, max_size=25), steps=st.lists(STEPS, max_size=40))
def test_the_start_is_rebuilt_from_the_end(
    settings: str, before: list[tuple[str, int, int]], steps: list[tuple[str, int, int]]
) -> None:
    known = recorded(settings, before, steps, knows_start=True)
    rebuilt = recorded(settings, before, steps, knows_start=False)
    if rebuilt.assumed == 0:
        assert rebuilt.initial == known.initial
        assert replay(rebuilt).equal


def a_recording(settings: str = "default") -> History:
    """A block from before, a waiting free, two streams, a segment given back: a little of all."""
    before = [("malloc", 3 * MIB, 0), ("malloc", 700, 5)]
    steps = [
        ("malloc", 2 * MIB, 0),
        ("malloc", 600, 0),
        ("free", 0, True),
        ("malloc", 30 * MIB, 5),
        ("free", 2, False),
        ("finish", 0, 0),
        ("malloc", 4 * MIB, 0),
        ("empty", 0, 0),
        ("malloc", 12 * MIB, 5),
    ]
    return recorded(settings, before, steps, knows_start=True)


def changed(history: History, action: str, place: int, by: int) -> History:
    """Change one number of the first event of an action: 1 the address, 2 the bytes, 3 the stream."""
    at = next(at for at, event in enumerate(history.events) if event[0] == action)
    event = list(history.events[at])
    event[place] += by
    return replace(history, events=(*history.events[:at], tuple(event), *history.events[at + 1 :]))


def without(history: History, action: str) -> History:
    at = next(at for at, event in enumerate(history.events) if event[0] == action)
    return replace(history, events=history.events[:at] + history.events[at + 1 :])


@pytest.mark.parametrize("settings", ["default", "expandable"])
def test_the_recording_that_is_broken_below_is_followed(settings: str) -> None:
    history = a_recording(settings)
    taken, given = ("segment_map", "segment_unmap") if settings == "expandable" else ("segment_alloc", "segment_free")
    assert {event[0] for event in history.events} == {
        "alloc",
        "free_requested",
        "free_completed",
        "snapshot",
        taken,
        given,
    }
    report = replay(history)
    assert report.mismatches == ()
    assert report.equal
    assert report.events == len(history.events)
    # In the recording: 2 MiB, 600 B, 30 MiB, 4 MiB and 12 MiB.
    assert report.allocations == 5
    assert report.segment_decisions == sum(event[0] in (taken, given) for event in history.events)


@pytest.mark.parametrize(
    ("action", "place", "by", "told"),
    [
        ("alloc", 1, 512, "alloc of 2097152 bytes at"),
        # 512 bytes more are first seen by the next allocation behind them.
        ("alloc", 2, 512, "recorded alloc of 4194304 bytes"),
        ("alloc", 3, 1, "recorded alloc of 2097152 bytes"),
        ("segment_alloc", 2, 2 * MIB, "recorded segment_alloc of 4194304 bytes"),
        ("segment_alloc", 3, 1, "segment_alloc of 2097152 bytes"),
        ("segment_free", 1, 2 * MIB, "recorded segment_free"),
        ("segment_free", 2, 2 * MIB, "recorded segment_free"),
        ("free_requested", 1, 512, "no block lives there"),
        ("free_requested", 2, 1, "recorded free_requested"),
        ("free_completed", 1, 512, "recorded free_completed"),
    ],
)
def test_a_changed_number_is_told(action: str, place: int, by: int, told: str) -> None:
    report = replay(changed(a_recording(), action, place, by))
    assert not report.equal
    assert told in report.mismatches[0]
    assert report.mismatches[0].startswith("event ")


@pytest.mark.parametrize("settings", ["default", "expandable"])
def test_a_missing_event_is_told(settings: str) -> None:
    history = a_recording(settings)
    for action in {event[0] for event in history.events} - {"snapshot"}:
        assert not replay(without(history, action)).equal, action


def test_a_segment_too_many_is_told() -> None:
    history = a_recording()
    at = next(at for at, event in enumerate(history.events) if event[0] == "alloc")
    taken = ("segment_alloc", 5 << 40, 20 * MIB, 0)
    report = replay(replace(history, events=(*history.events[:at], taken, *history.events[at:])))
    assert f"recorded segment_alloc of {20 * MIB} bytes at {5 << 40:#x} on stream 0, alloc" in report.mismatches[0]


def test_a_segment_for_no_allocation_is_told() -> None:
    history = a_recording()
    report = replay(replace(history, events=(*history.events, ("segment_alloc", 5 << 40, 20 * MIB, 0))))
    assert "was for no allocation" in report.mismatches[0]


def test_another_end_is_told_by_segment_and_by_total() -> None:
    history = a_recording()
    last = history.final[-1]
    size, requested, state = last.blocks[0]
    shrunk = replace(last, blocks=((size - 512, requested, state), *last.blocks[1:]))
    report = replay(replace(history, final=(*history.final[:-1], shrunk)))
    assert [text.partition(": ")[2].partition(" a ")[0] for text in report.mismatches[:2]] == [
        "the recording ends with",
        "the model ends with",
    ]
    totals = [text for text in report.mismatches if " at the end: " in text]
    assert any("reserved_bytes" in text for text in totals)


@pytest.mark.parametrize("place", range(4))
def test_another_peak_is_told(place: int) -> None:
    history = a_recording()
    assert history.peaks is not None
    peaks = list(history.peaks)
    peaks[place] += 512
    report = replay(replace(history, peaks=tuple(peaks)))
    assert len(report.mismatches) == 1
    assert f"recorded {peaks[place]}, and the model says {peaks[place] - 512}" in report.mismatches[0]


def test_other_settings_are_told() -> None:
    # With 2 divisions the 600 bytes stay, and 2 MiB + 700 KiB would take 3 MiB of a block instead of 2.7.
    history = recorded("default", [], [("malloc", 2 * MIB + 700 * KIB, 0), ("malloc", 4 * MIB, 0)], knows_start=True)
    assert replay(history).equal
    assert not replay(replace(history, settings="roundup_power2_divisions:2")).equal


def test_some_segments_given_back_are_taken_from_the_recording_and_counted() -> None:
    # Garbage collection gives back some of what is free: two segments of 20 and 30 MiB are, and one goes.
    plain = PlainAllocator(falling(expandable=False))
    program = Program(plain)
    program.run([("malloc", 20 * MIB, 0), ("malloc", 30 * MIB, 0), ("free", 0, False), ("free", 0, False)])
    gone = min(plain.segments, key=lambda segment: segment.address)
    plain.segments.remove(gone)
    plain.tell("segment_free", gone.address, 30 * MIB, 0)
    report = replay(history_of(plain.snapshot()))
    assert report.equal
    assert report.partial_releases == 1


def test_out_of_memory_changes_nothing_by_itself() -> None:
    history = a_recording()
    oom = ("oom", 12345, 80 * MIB, 0)
    assert replay(replace(history, events=(*history.events, oom))).equal


def test_a_free_that_never_completes_waits_to_the_end() -> None:
    history = recorded("default", [], [("malloc", 5000, 0), ("free", 0, True)], knows_start=False)
    assert history.final[0].blocks[0] == (5120, 5000, 2)
    assert replay(history).equal


def test_a_waiting_block_at_the_end_may_stand_where_another_stood_at_the_start() -> None:
    before = [("malloc", 1, 0), ("malloc", 1, 0)]
    steps = [("free", 0, False), ("free", 0, False), ("malloc", 513, 0), ("free", 0, True)]
    history = recorded("default", before, steps, knows_start=False)
    assert [block[0] for block in history.initial[0].blocks] == [512, 512, 2 * MIB - 1024]
    assert [block[0] for block in history.final[0].blocks] == [1024, 2 * MIB - 1024]
    assert replay(history).equal


def test_a_free_asked_for_before_the_recording_completes_in_it() -> None:
    before = [("malloc", 5000, 0), ("free", 0, True)]
    history = recorded("default", before, [("finish", 0, 0)], knows_start=False)
    assert history.initial[0].blocks[0] == (5120, 5000, 2)
    assert replay(history).equal


def test_a_hidden_tail_is_found_behind_a_block_from_before() -> None:
    # 20 MiB segment, 19.5 MiB asked: the rest of 0.5 MiB stays with the block, which only its end shows.
    size = 19 * MIB + 512 * KIB
    before = [("malloc", 20 * MIB, 0), ("free", 0, False), ("malloc", size, 0)]
    history = recorded("default", before, [("free", 0, False)], knows_start=False)
    assert history.initial[0].blocks == ((20 * MIB, size, 1),)
    assert history.assumed == 0
    assert replay(history).equal


def test_a_tail_that_nothing_shows_is_counted_as_assumed() -> None:
    # 8 MiB live, then a gap to the end of the 20 MiB: a tail of up to 1 MiB may hide in it.
    history = recorded("default", [("malloc", 8 * MIB, 0)], [("free", 0, False)], knows_start=False)
    assert history.assumed == 1
    assert history.initial[0].blocks == ((8 * MIB, 8 * MIB, 1), (12 * MIB, 0, FREE))


def test_the_first_allocation_behind_a_block_shows_where_it_ends() -> None:
    # In 20 MiB: 10 MiB and 10 MiB; the first freed and taken for 9.5 MiB, with a tail of 0.5 MiB; the second freed.
    before = [("malloc", 20 * MIB, 0), ("free", 0, False), ("malloc", 10 * MIB, 0), ("malloc", 8 * MIB, 0)]
    before += [("free", 0, False), ("malloc", 9 * MIB + 512 * KIB, 0), ("free", 0, False)]
    steps = [("malloc", 3 * MIB, 0), ("free", 0, False), ("free", 0, False)]
    history = recorded("default", before, steps, knows_start=False)
    assert history.initial[0].blocks[0] == (10 * MIB, 9 * MIB + 512 * KIB, 1)
    assert history.assumed == 0
    assert replay(history).equal


def test_pages_unmapped_in_a_recording_were_mapped_at_its_start() -> None:
    # Of 5 + 50 + 15 MiB in 80 the middle goes, and with it the page [20, 40): the start had one run.
    before = [("malloc", 5 * MIB, 0), ("malloc", 50 * MIB, 0), ("malloc", 15 * MIB, 0)]
    steps = [("free", 1, False), ("empty", 0, 0)]
    history = recorded("expandable", before, steps, knows_start=False)
    assert [segment.size for segment in history.initial] == [80 * MIB]
    assert [segment.size for segment in history.final] == [20 * MIB, 40 * MIB]
    assert history.assumed == 0
    assert replay(history).equal


def test_pages_mapped_again_in_a_gap_were_not_there_at_the_start() -> None:
    before = [("malloc", 5 * MIB, 0), ("malloc", 50 * MIB, 0), ("malloc", 15 * MIB, 0), ("free", 1, False)]
    history = recorded("expandable", [*before, ("empty", 0, 0)], [("malloc", 40 * MIB, 0)], knows_start=False)
    assert [segment.size for segment in history.initial] == [20 * MIB, 40 * MIB]
    assert replay(history).equal


@pytest.mark.parametrize("knows_start", [True, False])
def test_a_range_may_begin_below_its_first_mapped_page(knows_start: bool) -> None:
    # The first of two pages was unmapped before, and the next allocation takes it again.
    before = [("malloc", 20 * MIB, 0), ("malloc", 20 * MIB, 0), ("free", 0, False), ("empty", 0, 0)]
    history = recorded("expandable", before, [("malloc", 15 * MIB, 0), ("malloc", 9 * MIB, 0)], knows_start)
    assert [segment.size for segment in history.initial] == [20 * MIB]
    mapped = [event[1] for event in history.events if event[0] == "segment_map"]
    assert mapped[0] < history.initial[0].address < mapped[1]
    assert replay(history).equal


def test_unmapped_pages_that_nothing_tells_the_pool_of_are_counted_as_assumed() -> None:
    before = [("malloc", 20 * MIB, 0), ("free", 0, False)]
    history = recorded("expandable", before, [("empty", 0, 0)], knows_start=False)
    assert history.assumed == 1
    assert replay(history).equal


def test_a_recording_that_maps_for_nothing_is_told() -> None:
    history = recorded("expandable", [], [("malloc", 3 * MIB, 0)], knows_start=False)
    (mapped,) = [event for event in history.events if event[0] == "segment_map"]
    report = replay(replace(history, events=(*history.events, mapped)))
    assert "segment_map of" in report.mismatches[0]
    assert "was for no allocation" in report.mismatches[0]


def test_a_rest_of_exactly_one_mebibyte_is_hidden_too() -> None:
    before = [("malloc", 20 * MIB, 0), ("free", 0, False), ("malloc", 19 * MIB, 0)]
    history = recorded("default", before, [("free", 0, False)], knows_start=False)
    assert history.initial[0].blocks == ((20 * MIB, 19 * MIB, 1),)
    assert history.assumed == 0


def test_a_block_that_may_not_be_split_has_its_segment_alone() -> None:
    # 33 MiB asked of a free block of 50 that is over the limit of 20: all of it is taken, and wasted is less than 20.
    before = [("malloc", 50 * MIB, 0), ("free", 0, False), ("malloc", 33 * MIB, 0)]
    history = recorded("split", before, [("free", 0, False)], knows_start=False)
    assert history.initial[0].blocks == ((50 * MIB, 33 * MIB, 1),)
    assert history.assumed == 0
    assert replay(history).equal


def test_a_block_that_waits_at_the_end_shows_its_size() -> None:
    # As in the test of the first allocation behind a block, but its free only waits: 10 MiB for 9.5 asked.
    before = [("malloc", 20 * MIB, 0), ("free", 0, False), ("malloc", 10 * MIB, 0), ("malloc", 8 * MIB, 0)]
    before += [("free", 0, False), ("malloc", 9 * MIB + 512 * KIB, 0), ("free", 0, False)]
    history = recorded("default", before, [("free", 0, True)], knows_start=False)
    assert history.initial[0].blocks[0] == (10 * MIB, 9 * MIB + 512 * KIB, 1)
    assert history.assumed == 0
    assert replay(history).equal


def test_an_allocation_after_the_block_is_gone_shows_nothing() -> None:
    # 8 MiB and a gap; once they are one, 8.5 MiB and 3 MiB are cut off it, and where the 8 ended nothing says.
    steps = [("free", 0, False), ("malloc", 8 * MIB + 512 * KIB, 0), ("malloc", 3 * MIB, 0)]
    history = recorded("default", [("malloc", 8 * MIB, 0)], steps, knows_start=False)
    assert history.initial[0].blocks == ((8 * MIB, 8 * MIB, 1), (12 * MIB, 0, FREE))
    assert history.assumed == 1
    assert replay(history).equal
