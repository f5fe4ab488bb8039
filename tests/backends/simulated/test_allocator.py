"""What the caching allocator costs and keeps, worked by hand."""

from __future__ import annotations

import pytest

from pytest_flopguard.backends.simulated.allocator import Allocator
from pytest_flopguard.backends.simulated.allocator_settings import AllocatorSettings
from pytest_flopguard.backends.simulated.blocks import Block

KIB = 1024
MIB = 1024 * KIB


def allocator(settings: str = "", capacity: int | None = None) -> Allocator:
    return Allocator(AllocatorSettings.parse(settings), capacity, record=True)


def figures(model: Allocator) -> tuple[int, int, int, int]:
    """Requested, allocated, active and reserved bytes now."""
    stats = model.stats
    return stats.requested.current, stats.allocated.current, stats.active.current, stats.reserved.current


@pytest.mark.parametrize(
    ("requested", "costs", "segment"),
    [
        # Rounded up to whole 512 bytes.
        (1, 512, 2 * MIB),
        (511, 512, 2 * MIB),
        (512, 512, 2 * MIB),
        (513, 1024, 2 * MIB),
        # The last that is small, and the first that is not: it shares a segment of 20 MiB.
        (MIB - 1, MIB, 2 * MIB),
        (MIB, MIB, 2 * MIB),
        (MIB + 1, MIB + 512, 20 * MIB),
        # The last below 10 MiB; from 10 MiB on a segment is its own, in whole 2 MiB.
        (10 * MIB - 512, 10 * MIB - 512, 20 * MIB),
        (10 * MIB - 511, 10 * MIB, 10 * MIB),
        (10 * MIB, 10 * MIB, 10 * MIB),
        # 12 MiB hold 10 MiB + 512; a rest of 2 MiB - 512 is split off.
        (10 * MIB + 1, 10 * MIB + 512, 12 * MIB),
        # A rest of exactly 1 MiB stays with the block, one of 512 bytes more is split off.
        (11 * MIB, 12 * MIB, 12 * MIB),
        (11 * MIB - 512, 11 * MIB - 512, 12 * MIB),
        (25 * MIB + 1, 26 * MIB, 26 * MIB),
        (26 * MIB, 26 * MIB, 26 * MIB),
    ],
)
def test_what_a_request_costs_and_reserves(requested: int, costs: int, segment: int) -> None:
    model = allocator()
    block = model.malloc(requested)
    assert figures(model) == (requested, costs, costs, segment)
    assert block.size == costs
    model.free(block)
    assert figures(model) == (0, 0, 0, segment)
    assert model.stats.allocated.peak == costs
    assert model.stats.requested.peak == requested


@pytest.mark.parametrize("requested", [0, -1])
def test_no_bytes_are_no_request(requested: int) -> None:
    with pytest.raises(ValueError, match="at least one byte"):
        allocator().malloc(requested)


def test_a_block_is_freed_once() -> None:
    model = allocator()
    block = model.malloc(700)
    model.free(block)
    with pytest.raises(ValueError, match=r"free: the block at 0x7f0000000000 of 2097152 bytes is not live"):
        model.free(block)


def test_small_requests_share_two_mebibytes() -> None:
    # 4096 blocks of 512 bytes are 2 MiB; one more needs another segment.
    model = allocator()
    blocks = [model.malloc(100) for _ in range(4096)]
    assert figures(model) == (409_600, 2 * MIB, 2 * MIB, 2 * MIB)
    model.malloc(1)
    assert model.stats.reserved.current == 4 * MIB
    assert model.stats.segments.current == 2
    assert [block.address for block in blocks] == [0x7F00_0000_0000 + 512 * n for n in range(4096)]


def test_small_and_large_do_not_share() -> None:
    model = allocator()
    model.free(model.malloc(20 * MIB))
    model.malloc(MIB)
    assert model.stats.reserved.current == 22 * MIB


def test_the_smallest_block_that_fits_is_taken() -> None:
    # 12 MiB and 10 MiB are free, each a segment: 9.5 MiB fits both and takes the 10 MiB, whole (the rest is 0.5 MiB).
    model = allocator()
    large, small = model.malloc(12 * MIB), model.malloc(10 * MIB)
    place = small.address
    model.free(large)
    model.free(small)
    block = model.malloc(9 * MIB + 512 * KIB)
    assert (block.address, block.size) == (place, 10 * MIB)


def test_of_equal_blocks_the_lowest_is_taken() -> None:
    model = allocator()
    blocks = [model.malloc(10 * MIB) for _ in range(3)]
    places = [block.address for block in blocks]
    for block in reversed(blocks):
        model.free(block)
    assert [model.malloc(10 * MIB).address for _ in range(3)] == places


def test_a_block_at_address_zero_is_found() -> None:
    # Recorded histories count addresses from their lowest.
    model = Allocator(AllocatorSettings(), addresses=lambda size: 0)
    model.free(model.malloc(10 * MIB))
    assert model.malloc(10 * MIB).address == 0
    assert model.stats.reserved.current == 10 * MIB


def test_neighbours_join_on_both_sides() -> None:
    # Three blocks of 4 MiB and a rest of 8 MiB in 20 MiB. The middle is freed last and joins all to 20 MiB again.
    model = allocator()
    first, middle, last = (model.malloc(4 * MIB) for _ in range(3))
    for block in (first, last, middle):
        model.free(block)
    assert model.malloc(19 * MIB).size == 20 * MIB
    assert model.stats.reserved.current == 20 * MIB


def test_a_gap_between_live_blocks_is_used_again() -> None:
    model = allocator()
    first, middle, _last = (model.malloc(4 * MIB) for _ in range(3))
    place = middle.address
    model.free(middle)
    # 3 MiB would leave a rest of exactly 1 MiB in the gap, which stays with the block.
    block = model.malloc(3 * MIB)
    assert (block.address, block.size) == (place, 4 * MIB)
    assert first.next is block


def test_fragments_are_reserved_and_do_not_fit() -> None:
    # 20 MiB hold 5 blocks of 4 MiB. Every other one freed leaves 12 MiB in pieces of 4 MiB: 5 MiB need a new segment.
    model = allocator()
    blocks = [model.malloc(4 * MIB) for _ in range(5)]
    for block in blocks[::2]:
        model.free(block)
    model.malloc(5 * MIB)
    assert figures(model) == (13 * MIB, 13 * MIB, 13 * MIB, 40 * MIB)


def test_streams_do_not_share() -> None:
    model = allocator()
    model.free(model.malloc(10 * MIB, stream=1))
    model.malloc(10 * MIB, stream=2)
    assert model.stats.reserved.current == 20 * MIB
    model.malloc(10 * MIB, stream=1)
    assert model.stats.reserved.current == 20 * MIB


class TestStreams:
    def test_a_free_waits_for_the_other_stream(self) -> None:
        model = allocator()
        block = model.malloc(10 * MIB)
        model.record_stream(block, 3)
        model.free(block)
        # It is allocated no more, but active, and what was asked for stays counted with it.
        assert figures(model) == (10 * MIB, 0, 10 * MIB, 10 * MIB)
        model.malloc(10 * MIB)
        assert figures(model) == (20 * MIB, 10 * MIB, 20 * MIB, 20 * MIB)

    def test_the_first_malloc_after_a_synchronization_sees_it(self) -> None:
        model = allocator()
        block = model.malloc(10 * MIB)
        model.record_stream(block, 3)
        model.free(block)
        model.synchronize()
        assert figures(model) == (10 * MIB, 0, 10 * MIB, 10 * MIB)
        model.malloc(10 * MIB)
        assert figures(model) == (10 * MIB, 10 * MIB, 10 * MIB, 10 * MIB)

    def test_every_stream_is_waited_for(self) -> None:
        model = allocator()
        block = model.malloc(10 * MIB)
        model.record_stream(block, 3)
        model.record_stream(block, 4)
        model.free(block)
        model.synchronize(3)
        model.malloc(512)
        assert model.stats.active.current == 10 * MIB + 512
        model.synchronize(4)
        model.malloc(512)
        assert model.stats.active.current == 1024

    def test_its_own_stream_does_not_count(self) -> None:
        model = allocator()
        block = model.malloc(10 * MIB, stream=3)
        model.record_stream(block, 3)
        model.free(block)
        assert model.stats.active.current == 0

    def test_a_waiting_block_joins_no_neighbour(self) -> None:
        # 4 MiB live, 4 MiB waiting, 12 MiB free: 13 MiB fit nowhere before the wait is over.
        model = allocator()
        model.malloc(4 * MIB)
        block = model.malloc(4 * MIB)
        model.record_stream(block, 1)
        model.free(block)
        model.malloc(13 * MIB)
        assert model.stats.reserved.current == 34 * MIB

    def test_empty_cache_waits_and_then_gives_back(self) -> None:
        model = allocator()
        block = model.malloc(10 * MIB)
        model.record_stream(block, 3)
        model.free(block)
        model.empty_cache()
        assert figures(model) == (0, 0, 0, 0)


class TestEmptyCache:
    def test_whole_free_segments_go(self) -> None:
        # Two segments of 30 MiB: one free as a whole, of the other 2 MiB are live. The second stays.
        model = allocator()
        free, other = model.malloc(30 * MIB), model.malloc(30 * MIB)
        model.free(other)
        model.malloc(2 * MIB)
        model.free(free)
        assert model.stats.segments.current == 2
        model.empty_cache()
        assert model.stats.segments.current == 1
        assert model.stats.reserved.current == 30 * MIB

    def test_large_go_before_small_and_in_the_order_of_stream_size_and_address(self) -> None:
        model = allocator()
        blocks = [
            model.malloc(size, stream) for size, stream in [(512, 0), (30 * MIB, 2), (10 * MIB, 2), (44 * MIB, 1)]
        ]
        places = [block.address for block in blocks]
        for block in blocks:
            model.free(block)
        model.empty_cache()
        assert model.events is not None
        gone = [event[1] for event in model.events if event[0] == "segment_free"]
        assert gone == [places[3], places[2], places[1], places[0]]


def test_peaks_begin_anew_at_what_there_is() -> None:
    model = allocator()
    kept, gone = model.malloc(3 * MIB), model.malloc(30 * MIB)
    model.free(gone)
    model.reset_peaks()
    stats = model.stats
    # 3 MiB of a 20 MiB segment live, and 30 MiB kept.
    assert (stats.allocated.peak, stats.reserved.peak) == (3 * MIB, 50 * MIB)
    model.empty_cache()
    model.free(kept)
    assert (stats.allocated.peak, stats.reserved.peak) == (3 * MIB, 50 * MIB)
    assert stats.segments.peak == 2


def test_every_step_is_recorded_in_the_words_of_torch() -> None:
    model = allocator()
    block = model.malloc(1000, stream=2)
    model.free(block)
    model.empty_cache()
    place = 0x7F00_0000_0000
    assert model.events == [
        ("segment_alloc", place, 2 * MIB, 2),
        ("alloc", place, 1000, 2),
        ("free_requested", place, 1000, 2),
        ("free_completed", place, 1000, 2),
        ("segment_free", place, 2 * MIB, 2),
    ]
    assert Allocator(AllocatorSettings()).events is None


def test_a_snapshot_has_the_shape_that_torch_shows() -> None:
    model = allocator()
    blocks: list[Block] = [model.malloc(700), model.malloc(512), model.malloc(5 * MIB, stream=4)]
    model.record_stream(blocks[1], 1)
    model.free(blocks[1])
    small, large = model.snapshot()
    place = 0x7F00_0000_0000
    assert small == {
        "device": 0,
        "address": place,
        "total_size": 2 * MIB,
        "allocated_size": 1024,
        "active_size": 1536,
        "requested_size": 1212,
        "stream": 0,
        "segment_type": "small",
        "segment_pool_id": (0, 0),
        "is_expandable": False,
        "frames": [],
        "blocks": [
            {"address": place, "size": 1024, "requested_size": 700, "state": "active_allocated", "frames": []},
            {"address": place + 1024, "size": 512, "requested_size": 512, "state": "active_pending_free", "frames": []},
            {
                "address": place + 1536,
                "size": 2 * MIB - 1536,
                "requested_size": 0,
                "state": "inactive",
                "frames": [],
            },
        ],
    }
    assert (large["segment_type"], large["stream"], large["total_size"]) == ("large", 4, 20 * MIB)


def test_the_same_program_gives_the_same_addresses() -> None:
    def run() -> list[int]:
        model = allocator()
        blocks = [model.malloc(1 + n * 37_111, n % 3) for n in range(300)]
        for block in blocks[::3]:
            model.free(block)
        return [model.malloc(1 + n * 91_111).address for n in range(200)]

    assert run() == run()
