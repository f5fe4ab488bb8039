"""Expandable segments worked by hand: pages mapped and unmapped in one range of addresses."""

from __future__ import annotations

import pytest

from pytest_flopguard.backends.simulated.allocator import Allocator, OutOfMemory
from pytest_flopguard.backends.simulated.allocator_settings import AllocatorSettings

MIB = 1024 * 1024


def allocator(settings: str = "", capacity: int | None = None) -> Allocator:
    more = f",{settings}" if settings else ""
    return Allocator(AllocatorSettings.parse(f"expandable_segments:True{more}"), capacity, record=True)


def mapped(model: Allocator) -> list[tuple[str, int, int]]:
    """The mappings as (action, MiB from the first address, MiB)."""
    assert model.events is not None
    events = [event for event in model.events if event[0].startswith("segment")]
    first = min(event[1] for event in events)
    return [
        (action.removeprefix("segment_"), (address - first) // MIB, size // MIB) for action, address, size, _ in events
    ]


@pytest.mark.parametrize(
    ("requested", "costs", "reserved"),
    [
        (1, 512, 2 * MIB),
        (MIB, MIB, 2 * MIB),
        # Pages of the large pool are 20 MiB, and no rest of 512 bytes or more stays with a block.
        (MIB + 1, MIB + 512, 20 * MIB),
        (19 * MIB + 1, 19 * MIB + 512, 20 * MIB),
        (20 * MIB, 20 * MIB, 20 * MIB),
        (20 * MIB + 1, 20 * MIB + 512, 40 * MIB),
        (50 * MIB, 50 * MIB, 60 * MIB),
    ],
)
def test_what_a_request_costs_and_reserves(requested: int, costs: int, reserved: int) -> None:
    model = allocator()
    model.malloc(requested)
    assert model.stats.allocated.current == costs
    assert model.stats.reserved.current == reserved
    # Torch counts no segment for these.
    assert model.stats.segments.current == 0


def test_pages_follow_the_size_that_is_set() -> None:
    model = allocator("large_segment_size_mb:32")
    model.malloc(2 * MIB)
    assert model.stats.reserved.current == 32 * MIB


def test_the_range_grows_at_its_end_and_no_gap_is_lost() -> None:
    # 15 of 20 MiB live; 15 more use the 5 that are left and 10 of the next page.
    model = allocator()
    first = model.malloc(15 * MIB)
    second = model.malloc(15 * MIB)
    assert second.address == first.address + 15 * MIB
    assert mapped(model) == [("map", 0, 20), ("map", 20, 20)]
    model.malloc(10 * MIB)
    assert model.stats.reserved.current == 40 * MIB


def test_what_cannot_grow_is_taken_before_what_can() -> None:
    # Free are 4 MiB in the middle and 12 MiB at the end, which could grow without end. 3 MiB fit both: the middle.
    model = allocator()
    gap = model.malloc(4 * MIB)
    place = gap.address
    model.malloc(4 * MIB)
    model.free(gap)
    assert model.malloc(3 * MIB).address == place


def test_a_larger_one_that_cannot_grow_is_taken_before_the_end() -> None:
    # Free are 12 MiB at the end, the smaller, and 16 MiB at the front, which is all that it can be: 10 MiB go there.
    model = allocator()
    front = model.malloc(16 * MIB)
    place = front.address
    model.malloc(12 * MIB)
    model.free(front)
    assert model.malloc(10 * MIB).address == place


def test_of_two_that_are_equal_the_lowest_is_taken() -> None:
    model = allocator()
    blocks = [model.malloc(4 * MIB) for _ in range(4)]
    places = [block.address for block in blocks]
    model.free(blocks[2])
    model.free(blocks[0])
    assert [model.malloc(4 * MIB).address for _ in range(2)] == [places[0], places[2]]


def test_each_pool_and_stream_has_its_own_range() -> None:
    model = allocator()
    model.malloc(512)
    model.malloc(2 * MIB)
    model.malloc(512, stream=1)
    assert model.stats.reserved.current == 2 * MIB + 20 * MIB + 2 * MIB
    assert len(model.snapshot()) == 3


def test_empty_cache_unmaps_whole_pages_only() -> None:
    # 70 MiB of 80 live; 50 of them freed from 5 on: of [5, 55) the pages [20, 40) are whole, and the last 10 stay too.
    model = allocator()
    model.malloc(5 * MIB)
    middle = model.malloc(50 * MIB)
    model.malloc(15 * MIB)
    model.free(middle)
    model.empty_cache()
    assert mapped(model)[-1] == ("unmap", 20, 20)
    assert model.stats.reserved.current == 60 * MIB
    shown = [(segment["total_size"], len(segment["blocks"])) for segment in model.snapshot()]
    # Two runs are left: 5 live and 15 free; 15 free, 15 live and 10 free.
    assert shown == [(20 * MIB, 2), (40 * MIB, 3)]


def test_a_gap_is_filled_with_the_free_bytes_beside_it() -> None:
    # The gap of the test above has 15 MiB free before it and 15 behind: with one page they hold 40 MiB, at their front.
    model = allocator()
    first = model.malloc(5 * MIB)
    middle = model.malloc(50 * MIB)
    model.malloc(15 * MIB)
    model.free(middle)
    model.empty_cache()
    block = model.malloc(40 * MIB)
    assert block.address == first.address + 5 * MIB
    assert mapped(model)[-1] == ("map", 20, 20)
    assert model.stats.reserved.current == 80 * MIB


def test_a_gap_that_is_too_small_is_left_for_the_end() -> None:
    # 15 + 20 + 15 MiB are free or unmapped in the middle: 51 do not fit, and the end has 10: it grows by 60.
    model = allocator()
    model.malloc(5 * MIB)
    middle = model.malloc(50 * MIB)
    last = model.malloc(15 * MIB)
    model.free(middle)
    model.empty_cache()
    block = model.malloc(51 * MIB)
    assert block.address == last.address + 15 * MIB
    assert mapped(model)[-1] == ("map", 80, 60)


def test_all_free_and_all_unmapped_is_nothing() -> None:
    model = allocator()
    blocks = [model.malloc(size) for size in (512, 3 * MIB, 70 * MIB)]
    for block in blocks:
        model.free(block)
    model.empty_cache()
    assert model.stats.reserved.current == 0
    assert model.snapshot() == []
    # The next one begins a new range.
    model.malloc(512)
    assert model.stats.reserved.current == 2 * MIB


def test_a_full_device_unmaps_and_retries() -> None:
    # 60 MiB in all, as 3 pages: 20 live on stream 0 and 40 free; stream 1 needs 2 pages, and gets them.
    model = allocator(capacity=60 * MIB)
    model.malloc(20 * MIB)
    model.free(model.malloc(40 * MIB))
    model.malloc(30 * MIB, stream=1)
    assert model.stats.reserved.current == 60 * MIB
    assert model.stats.alloc_retries == 1


def test_pages_are_mapped_all_or_not_at_all() -> None:
    # 50 MiB in all hold 2 pages. 41 MiB need 3: none is mapped.
    model = allocator(capacity=50 * MIB)
    with pytest.raises(OutOfMemory) as raised:
        model.malloc(41 * MIB)
    assert (raised.value.requested, raised.value.wanted, raised.value.reserved) == (41 * MIB, 42 * MIB, 0)
    assert model.malloc(40 * MIB).size == 40 * MIB


def test_what_is_free_at_the_end_is_no_help_where_no_page_is_left() -> None:
    # 40 MiB in all, 30 live: 10 are free at the end, and the page that 25 need besides is not to be had.
    model = allocator(capacity=40 * MIB)
    model.malloc(30 * MIB)
    with pytest.raises(OutOfMemory):
        model.malloc(25 * MIB)
    assert model.stats.reserved.current == 40 * MIB
    assert model.malloc(10 * MIB).size == 10 * MIB


def test_oversize_blocks_of_a_range_are_not_given_back_one_by_one() -> None:
    # 90 MiB are allowed and 80 free in one piece, too large to split for 20: only a retry unmaps it. Then the range is
    # gone, and the next one begins behind its 112.5 MiB of addresses, in whole pages 120.
    model = allocator("max_split_size_mb:32,per_process_memory_fraction:0.9", 100 * MIB)
    model.free(model.malloc(80 * MIB))
    model.malloc(20 * MIB)
    assert model.stats.alloc_retries == 1
    assert mapped(model) == [("map", 0, 80), ("unmap", 0, 80), ("map", 120, 20)]


def test_a_range_has_addresses_for_an_eighth_more_than_the_device() -> None:
    # 160 MiB of device, 180 of addresses: [0, 20) and [40, 60) live, the page between unmapped. 120 MiB fit behind.
    model = allocator(capacity=160 * MIB)
    first, gap, _last = (model.malloc(20 * MIB) for _ in range(3))
    model.free(gap)
    model.empty_cache()
    assert model.malloc(120 * MIB).address == first.address + 60 * MIB
    assert model.stats.reserved.current == 160 * MIB


def test_where_a_range_has_no_more_addresses_another_begins() -> None:
    # As above with one page more live: behind [60, 80) are 100 MiB of addresses, so 120 MiB need a range of their own.
    model = allocator(capacity=160 * MIB)
    first = model.malloc(20 * MIB)
    gap = model.malloc(40 * MIB)
    model.malloc(20 * MIB)
    model.free(gap)
    model.empty_cache()
    # Addresses of the stand-in for the driver rise, so the second range begins where the first ends.
    assert model.malloc(120 * MIB).address == first.address + 180 * MIB
