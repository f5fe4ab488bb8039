"""The peak of a recorded history: traces written by hand, and random ones against a plain model."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_flopguard.backends.cuda_history import Block, HistoryPeak, history_peak, resting

MIB = 1024**2


def alloc(address: int, size: int, stream: int = 0) -> dict[str, Any]:
    return {"action": "alloc", "addr": address, "size": size, "stream": stream, "frames": []}


def free(address: int, size: int = 0, stream: int = 0) -> list[dict[str, Any]]:
    return [
        {"action": each, "addr": address, "size": size, "stream": stream, "frames": []}
        for each in ("free_requested", "free_completed")
    ]


def block(number: int, address: int, size: int, stream: int = 0) -> Block:
    return Block(number=number, address=address, bytes=size, stream=stream)


def peak_of(trace: list[dict[str, Any]], start: dict[int, Block] | None = None, skip: int = 0) -> HistoryPeak:
    return history_peak(start or {}, trace, skip=skip, number=100 + skip)


def test_what_is_asked_for_is_rounded_up_to_512() -> None:
    trace = [alloc(0, 1), alloc(1024, 512), alloc(2048, 513), alloc(4096, 0)]
    assert [each.bytes for each in peak_of(trace).blocks] == [512, 512, 1024, 512]


def test_the_blocks_that_live_together_are_the_most() -> None:
    trace = [alloc(0, 1024), alloc(2048, 512), *free(0), alloc(4096, 2048), *free(2048), *free(4096), alloc(0, 2048)]
    found = peak_of(trace)
    # 1024, 1536, 512, 2560, 2048, 0, 2048: the most is the fourth.
    assert found.timeline == ((0, 0), (1, 1024), (2, 1536), (3, 512), (4, 2560), (5, 2048), (6, 0), (7, 2048))
    assert set(found.blocks) == {block(102, 2048, 512), block(103, 4096, 2048)}
    assert (found.bytes, found.numbers) == (2560, {0: [101, 104], 2048: [102], 4096: [103]})


def test_what_rests_at_the_start_counts_with_its_tail() -> None:
    start = {0: block(0, 0, 20 * MIB)}
    # Its free gives back the whole block, whatever was asked for.
    found = peak_of([alloc(32 * MIB, 512), *free(0, 19 * MIB), alloc(0, 512)], start)
    assert (found.bytes, found.timeline[-1]) == (20 * MIB + 512, (3, 1024))
    assert found.numbers[0] == [0, 102]


def test_what_happened_before_the_region_is_passed_over() -> None:
    before = [alloc(0, 512), alloc(512, 512), *free(0), alloc(0, 1024), *free(512)]
    start = {0: block(0, 0, 1024)}
    found = peak_of([*before, alloc(8192, 512)], start, skip=3)
    assert found.timeline == ((0, 1024), (1, 1536))
    assert {each.number for each in found.blocks} == {0, 104}


def test_a_region_in_which_nothing_happens_holds_what_rested() -> None:
    found = peak_of([], {0: block(0, 0, 1024)})
    assert (found.blocks, found.timeline) == ((block(0, 0, 1024),), ((0, 1024),))
    assert peak_of([]).blocks == ()


def test_streams_are_numbered_whatever_their_handles() -> None:
    found = peak_of([alloc(0, 512, stream=94_000), alloc(512, 1024), alloc(2048, 512, stream=77)])
    assert found.by_stream() == {0: 1024, 1: 512, 2: 512}
    assert peak_of([alloc(0, 512)]).by_stream() == {0: 512}


def test_segments_tell_the_blocks_that_are_handed_out() -> None:
    blocks = [
        {"state": "active_allocated", "size": 1024, "requested_size": 600, "address": 4096, "frames": []},
        {"state": "inactive", "size": 512, "requested_size": 0, "address": 5120},
        {"state": "active_awaiting_free", "size": 512, "requested_size": 9, "address": 5632},
        {"state": "active_allocated", "size": 2048, "requested_size": 2000, "address": 6144},
    ]
    ours = {"device": 0, "address": 4096, "stream": 7, "blocks": blocks}
    # Older snapshots tell no address of a block: it follows from the segment's.
    bare = [{key: value for key, value in each.items() if key != "address"} for each in blocks]
    for segments in ([ours], [{**ours, "blocks": bare}], [ours, {**ours, "device": 1, "address": 9999}]):
        assert resting(segments, 0) == {4096: block(0, 4096, 1024, 7), 6144: block(0, 6144, 2048, 7)}


@pytest.mark.parametrize("action", ["segment_alloc", "segment_free", "free_completed", "oom", "snapshot"])
def test_other_events_change_nothing(action: str) -> None:
    event = {"action": action, "addr": 0, "size": MIB, "stream": 0, "frames": []}
    assert peak_of([alloc(0, 512), event]).timeline == ((0, 0), (1, 512))


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 7), st.integers(0, 5000)), max_size=60))
def test_random_histories_match_a_plain_model(steps: list[tuple[int, int]]) -> None:
    trace: list[dict[str, Any]] = []
    live: dict[int, int] = {}
    most, at_peak = 0, {}
    # Each slot is an address: allocated where it is empty, freed where it is not.
    for slot, size in steps:
        if slot in live:
            trace += free(slot)
            del live[slot]
        else:
            trace.append(alloc(slot, size))
            live[slot] = max(512, (size + 511) // 512 * 512)
        if sum(live.values()) > most:
            most, at_peak = sum(live.values()), dict(live)
    found = peak_of(trace)
    assert {each.address: each.bytes for each in found.blocks} == at_peak
    assert max(size for _, size in found.timeline) == most == found.bytes
