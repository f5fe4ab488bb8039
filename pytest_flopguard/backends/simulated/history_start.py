"""The state of the allocator when a recording began, rebuilt from its events and from the state at its end."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from pytest_flopguard.backends.simulated.allocator_settings import AllocatorSettings
from pytest_flopguard.backends.simulated.blocks import SMALL_LIMIT, SMALL_SEGMENT
from pytest_flopguard.backends.simulated.history import (
    FREE,
    LIVE,
    WAITING,
    Event,
    HistoryError,
    RecordedBlock,
    RecordedSegment,
)

_OF_BLOCKS = ("alloc", "free_requested", "free_completed")


class _Run:
    """Reserved bytes side by side in one segment: [address, end)."""

    __slots__ = ("address", "end", "expandable", "small", "stream")

    def __init__(self, address: int, end: int, stream: int, small: bool, expandable: bool) -> None:
        self.address = address
        self.end = end
        self.stream = stream
        self.small = small
        self.expandable = expandable

    @property
    def kind(self) -> tuple[int, bool, bool]:
        """What runs of one range have in common."""
        return self.stream, self.small, self.expandable

    def touches(self, address: int, size: int) -> bool:
        """Whether so many bytes at an address lie directly before or behind the run."""
        return address in (self.end, self.address - size)


class _Found:
    """A block that was there at the start: its size is certain where the end shows it, else at least what it asked."""

    __slots__ = ("address", "certain", "requested", "size", "state")

    def __init__(self, address: int, requested: int, size: int, state: int, certain: bool) -> None:
        self.address = address
        self.requested = requested
        self.size = size
        self.state = state
        self.certain = certain


def start_of(
    final: Sequence[RecordedSegment], events: Sequence[Event], settings: AllocatorSettings
) -> tuple[tuple[RecordedSegment, ...], int]:
    """Return the segments at the start, and how many of their blocks had to be given a size on assumption.

    A block that was live before the recording and is freed in it shows what it asked for, not what it cost: in the
    large pool up to 1 MiB more (``should_split``). Where the next block tells, or the first allocation behind it, the
    size is certain; else it is assumed to be the least. Raise HistoryError where events contradict the end.
    """
    runs, assumed = _runs_at_start(final, events, settings)
    found = _blocks_at_start(final, events, settings)
    starts = [run.address for run in runs]
    inside: list[list[_Found]] = [[] for _ in runs]
    for block in found:
        at = bisect_right(starts, block.address) - 1
        if at < 0 or block.address + block.size > runs[at].end:
            raise HistoryError(f"the block at {block.address:#x} of {block.size} bytes is in no segment of the start")
        inside[at].append(block)
    behind = [pair for run, blocks in zip(runs, inside, strict=True) for pair in _unclear(run, blocks, settings)]
    assumed += _settle(behind, events)
    return tuple(_segment(run, blocks) for run, blocks in zip(runs, inside, strict=True)), assumed


def _runs_at_start(
    final: Sequence[RecordedSegment], events: Sequence[Event], settings: AllocatorSettings
) -> tuple[list[_Run], int]:
    """Undo every segment event, the last first; count the unmapped runs that no event tells the pool of."""
    runs = [_Run(each.address, each.address + each.size, each.stream, each.small, each.expandable) for each in final]
    spoken = sorted((event[1], settings.rounded(event[2]) <= SMALL_LIMIT) for event in events if event[0] in _OF_BLOCKS)
    addresses = [address for address, _ in spoken]
    assumed = 0
    for action, address, size, stream in reversed(events):
        if action in ("segment_alloc", "segment_map"):
            _cut(runs, address, address + size)
        elif action == "segment_free":
            runs.append(_Run(address, address + size, stream, size == SMALL_SEGMENT, False))
        elif action == "segment_unmap":
            at = bisect_right(addresses, address + size - 1) - 1
            beside = [run for run in runs if run.expandable and run.stream == stream and run.touches(address, size)]
            # Whole pages of the large pool could be many of the small one; any other size is of the small one.
            small = size % settings.large_segment_size != 0
            if beside:
                small = beside[0].small
            elif at >= 0 and addresses[at] >= address:
                small = spoken[at][1]
            else:
                assumed += not small
            runs.append(_Run(address, address + size, stream, small, True))
    return _joined(runs), assumed


def _cut(runs: list[_Run], address: int, end: int) -> None:
    """Take the bytes of [address, end) out of the runs that hold them."""
    left = end - address
    for run in list(runs):
        low, high = max(run.address, address), min(run.end, end)
        if low >= high:
            continue
        left -= high - low
        runs.remove(run)
        if run.address < low:
            runs.append(_Run(run.address, low, run.stream, run.small, run.expandable))
        if high < run.end:
            runs.append(_Run(high, run.end, run.stream, run.small, run.expandable))
    if left:
        raise HistoryError(f"{end - address} bytes were reserved at {address:#x}, and the end does not have them")


def _joined(runs: list[_Run]) -> list[_Run]:
    """Return the runs by address, the mapped pages of one range side by side as one."""
    joined: list[_Run] = []
    for run in sorted(runs, key=lambda run: run.address):
        last = joined[-1] if joined else None
        if last is not None and run.expandable and last.end == run.address and last.kind == run.kind:
            last.end = run.end
        else:
            joined.append(run)
    return joined


def _blocks_at_start(
    final: Sequence[RecordedSegment], events: Sequence[Event], settings: AllocatorSettings
) -> list[_Found]:
    """Return the blocks that events or the end speak of and no event has allocated, by address."""
    started: dict[int, _Found] = {}
    known: set[int] = set()
    asked: set[int] = set()
    for action, address, size, _ in events:
        if action == "alloc":
            known.add(address)
        elif action in ("free_requested", "free_completed"):
            if address not in known:
                state = LIVE if action == "free_requested" else WAITING
                started[address] = _Found(address, size, settings.rounded(size), state, False)
                known.add(address)
                asked.add(address)
            if action == "free_completed":
                known.discard(address)
                asked.discard(address)
    for segment in final:
        address = segment.address
        for size, requested, state in segment.blocks:
            if state != FREE and address not in known:
                started[address] = _Found(address, requested, size, state, True)
            elif address in asked:
                # Asked to be freed in the recording, and not done at its end: the end shows its size.
                started[address].size, started[address].certain = size, True
            address += size
    return [started[address] for address in sorted(started)]


def _unclear(run: _Run, blocks: list[_Found], settings: AllocatorSettings) -> list[tuple[_Found, int]]:
    """Settle the sizes that the neighbours tell; return the others, each with the end of the gap behind it."""
    unclear = []
    limit = settings.max_split_size
    for at, block in enumerate(blocks):
        if block.certain or run.small or run.expandable:
            continue
        end = blocks[at + 1].address if at + 1 < len(blocks) else run.end
        gap = end - block.address - block.size
        # A free block of the large pool is larger than 1 MiB, and a block that may not be split has its segment alone.
        if 0 < gap <= SMALL_LIMIT or (limit is not None and block.size >= limit):
            block.size += gap
        elif gap:
            unclear.append((block, end))
    return unclear


def _settle(unclear: list[tuple[_Found, int]], events: Sequence[Event]) -> int:
    """Let the first allocation in each gap tell where the block before it ends; return how many stay unknown."""
    starts = [block.address for block, _ in unclear]
    open_ = set(starts)
    assumed = 0
    for action, address, _, _ in events:
        at = bisect_right(starts, address) - 1
        if at < 0 or starts[at] not in open_:
            continue
        block, end = unclear[at]
        if action == "alloc" and address < end:
            block.size = address - block.address
            open_.discard(block.address)
        elif action == "free_completed" and address == block.address:
            # From here on the block and the gap are one, so nothing more can tell them apart.
            open_.discard(block.address)
            assumed += 1
    return assumed + len(open_)


def _segment(run: _Run, found: list[_Found]) -> RecordedSegment:
    blocks: list[RecordedBlock] = []
    at = run.address
    for block in found:
        if block.address < at:
            raise HistoryError(f"two blocks at the start share the bytes at {block.address:#x}")
        if block.address > at:
            blocks.append((block.address - at, 0, FREE))
        blocks.append((block.size, block.requested, block.state))
        at = block.address + block.size
    if at < run.end:
        blocks.append((run.end - at, 0, FREE))
    return RecordedSegment(
        address=run.address, stream=run.stream, small=run.small, expandable=run.expandable, blocks=tuple(blocks)
    )
