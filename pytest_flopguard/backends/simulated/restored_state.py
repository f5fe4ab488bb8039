"""A recorded state put into a fresh allocator, block by block."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby

from pytest_flopguard.backends.simulated.allocator import Allocator
from pytest_flopguard.backends.simulated.blocks import AddressRange, Block, Shelf
from pytest_flopguard.backends.simulated.device_memory import UNBOUNDED_RANGE
from pytest_flopguard.backends.simulated.history import FREE, LIVE, RecordedSegment


def restore(
    allocator: Allocator, segments: Sequence[RecordedSegment], mapped_later: Iterable[tuple[int, int, bool]] = ()
) -> list[Block]:
    """Give a fresh allocator these segments; return its blocks that are live, or freed and waiting.

    The mapped runs of one pool and stream are taken for one expandable range. It begins at the first of them, or at
    the lowest of the places (address, stream, small) ``mapped_later`` that lies whole pages below and has no other
    segment between. Peaks begin at what is restored. A waiting block waits for nothing yet.
    """
    mapped_later = list(mapped_later)
    active: list[Block] = []
    plain = [segment for segment in segments if not segment.expandable]
    for segment in plain:
        active += _restore_run(allocator, segment, None, None)[1]
        allocator.stats.segments.add(1)
    mapped = sorted((each for each in segments if each.expandable), key=lambda each: (each.small, each.stream))
    for _, runs in groupby(mapped, key=lambda each: (each.small, each.stream)):
        in_order = sorted(runs, key=lambda run: run.address)
        active += _restore_range(allocator, in_order, _first_address(allocator, in_order[0], segments, mapped_later))
    allocator.reset_peaks()
    return active


def _first_address(
    allocator: Allocator,
    first: RecordedSegment,
    segments: Sequence[RecordedSegment],
    mapped_later: Sequence[tuple[int, int, bool]],
) -> int:
    page = _shelf(allocator, first).pool.page
    below = max((each.address for each in segments if each.address < first.address), default=-1)
    below = max(below, first.address - UNBOUNDED_RANGE // 2)
    places = [
        address
        for address, *owner in mapped_later
        if owner == [first.stream, first.small] and below < address < first.address
        if (first.address - address) % page == 0
    ]
    return min(places, default=first.address)


def _restore_range(allocator: Allocator, runs: Sequence[RecordedSegment], begin: int) -> list[Block]:
    shelf = _shelf(allocator, runs[0])
    range_ = AddressRange(begin, UNBOUNDED_RANGE, shelf.pool.page)
    active: list[Block] = []
    last: Block | None = None
    at = begin
    for run in runs:
        if run.address > at:
            last = _unmapped(at, run.address, shelf, range_, last)
        last, found = _restore_run(allocator, run, range_, last)
        at = run.address + run.size
        active += found
    _unmapped(at, begin + range_.size, shelf, range_, last)
    return active


def _unmapped(begin: int, end: int, shelf: Shelf, range_: AddressRange, before: Block | None) -> Block:
    """Fill the addresses between two runs with an unmapped block."""
    block = Block(begin, end - begin, shelf, range_)
    if before is not None:
        block.put_after(before)
    shelf.add_unmapped(block)
    return block


def _restore_run(
    allocator: Allocator, segment: RecordedSegment, range_: AddressRange | None, last: Block | None
) -> tuple[Block | None, list[Block]]:
    shelf = _shelf(allocator, segment)
    stats = allocator.stats
    active: list[Block] = []
    address = segment.address
    for size, requested, state in segment.blocks:
        block = Block(address, size, shelf, range_)
        if last is not None:
            block.put_after(last)
        if state == FREE:
            shelf.add(block)
        else:
            block.requested = requested
            allocator.active[address] = block
            stats.took(size, requested)
            active.append(block)
            if state == LIVE:
                block.allocated = True
            else:
                stats.allocated.subtract(size)
                allocator.wait(block, set())
        last = block
        address += size
    allocator.device.in_use += segment.size
    stats.reserved.add(segment.size)
    return last, active


def _shelf(allocator: Allocator, segment: RecordedSegment) -> Shelf:
    pool = allocator.small if segment.small else allocator.large
    return pool.shelf(segment.stream)
