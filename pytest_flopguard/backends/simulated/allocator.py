"""An event-driven model of torch's CUDACachingAllocator: each address, segment and byte as the real one would choose.

Sources are named by function; where no file is told they stand in c10/cuda/CUDACachingAllocator.cpp, class
``DeviceCachingAllocator``. Private pools (CUDA graphs, ``use_mem_pool``) are not modelled.
"""

from __future__ import annotations

from collections.abc import Callable

from pytest_flopguard.backends.simulated import expandable
from pytest_flopguard.backends.simulated.allocator_settings import AllocatorSettings
from pytest_flopguard.backends.simulated.allocator_stats import AllocatorStats
from pytest_flopguard.backends.simulated.allocator_text import NO_DIVISIONS
from pytest_flopguard.backends.simulated.blocks import (
    LARGE_ROUNDING,
    LARGE_SEGMENT_LIMIT,
    ROUNDING,
    SMALL_LIMIT,
    SMALL_SEGMENT,
    Block,
    Pool,
    Shelf,
    join,
)
from pytest_flopguard.backends.simulated.device_memory import DeviceMemory
from pytest_flopguard.backends.simulated.memory_snapshot import segments_of

# (action, address, bytes, stream), in the words of ``TraceEntry::Action``.
Event = tuple[str, int, int, int]


class OutOfMemory(Exception):
    """The device has no room left, after everything that could be given back was: all figures in bytes.

    ``requested`` was asked for and ``wanted`` is the segment that it needs; ``capacity`` is what the device gives at
    most, or what ``per_process_memory_fraction`` allows.
    """

    def __init__(self, *, requested: int, wanted: int, allocated: int, reserved: int, capacity: int) -> None:
        self.requested = requested
        self.wanted = wanted
        self.allocated = allocated
        self.reserved = reserved
        self.capacity = capacity
        super().__init__(
            f"out of memory: tried to allocate {wanted} bytes for a request of {requested}; of {capacity} bytes "
            f"{reserved} are reserved, {allocated} of them allocated"
        )


class Allocator:
    """The caching allocator of one device under some settings, with ``capacity`` bytes to take from it (None: no end).

    ``addresses`` says where the driver puts a new segment of a size, and ``record`` keeps every event in ``events``.
    """

    def __init__(
        self,
        settings: AllocatorSettings,
        capacity: int | None = None,
        *,
        addresses: Callable[[int], int] | None = None,
        record: bool = False,
    ) -> None:
        self.settings = settings
        self.stats = AllocatorStats()
        self.device = DeviceMemory(capacity, addresses)
        self.small = Pool(small=True, page=SMALL_SEGMENT)
        self.large = Pool(small=False, page=settings.large_segment_size)
        self.events: list[Event] | None = [] if record else None
        self.active: dict[int, Block] = {}
        self._waiting: list[Block] = []
        self.set_memory_fraction(settings.per_process_memory_fraction)
        self._some_events_done = False
        self._splits_any = settings.max_split_size is None
        self._rounds_plainly = settings.roundup_power2_divisions is NO_DIVISIONS

    # The three calls of a program.

    def malloc(self, requested: int, stream: int = 0) -> Block:
        """Return a live block of at least so many bytes for a stream, or raise OutOfMemory (``malloc``)."""
        if requested < 1:
            raise ValueError(f"malloc({requested!r}): expected at least one byte; torch takes no block for none")
        if self._some_events_done:
            self.process_events()
        size = (requested + ROUNDING - 1) & -ROUNDING if self._rounds_plainly else self.settings.rounded(requested)
        pool = self.small if size <= SMALL_LIMIT else self.large
        shelf = pool.shelves.get(stream) or pool.shelf(stream)
        block = self._free_block(shelf, size)
        if block is None:
            block = self._new_block(shelf, size, requested)
        if block.size != size and self._should_split(block, size):
            block = self._split(block, size)
        block.allocated = True
        block.requested = requested
        self.active[block.address] = block
        if self.events is not None:
            self.events.append(("alloc", block.address, requested, stream))
        self.stats.took(block.size, requested)
        return block

    def free(self, block: Block) -> None:
        """Give a live block back; it can be had again once its events are done (``free``)."""
        if not block.allocated:
            raise ValueError(f"free: the block at {block.address:#x} of {block.size} bytes is not live")
        block.allocated = False
        self.stats.allocated.subtract(block.size)
        if self.events is not None:
            self.events.append(("free_requested", block.address, block.requested, block.stream))
        if block.uses:
            uses, block.uses = block.uses, None
            self.wait(block, uses)
        else:
            self.finish_free(block)

    def record_stream(self, block: Block, stream: int) -> None:
        """Say that another stream uses a live block, so that its free waits for that stream (``recordStream``)."""
        if stream != block.stream:
            if block.uses is None:
                block.uses = set()
            block.uses.add(stream)

    # What happens beside.

    def synchronize(self, stream: int | None = None) -> None:
        """Finish the work of a stream, or of all; the next malloc sees it.

        When an event is done is the device's affair. Here it is done at the first synchronization, not before, so a
        prediction is never too low for want of one.
        """
        for block in self._waiting:
            if block.waits_for is not None:
                if stream is None:
                    block.waits_for.clear()
                else:
                    block.waits_for.discard(stream)
                self._some_events_done |= not block.waits_for

    def set_memory_fraction(self, fraction: float) -> None:
        """Allow the process this fraction of the capacity, and no more (``setMemoryFraction``)."""
        capacity = self.device.capacity
        self.allowed = None if capacity is None or fraction >= 1 else int(fraction * capacity)
        # Torch collects garbage only where a limit below the whole device is set.
        self._collects_garbage = self.allowed is not None and self.settings.garbage_collection_threshold > 0

    def empty_cache(self) -> None:
        """Give every whole free segment back to the device (``emptyCache``)."""
        self._release_cached()

    def reset_peaks(self) -> None:
        """Let every peak begin anew at what there is now (``resetPeakStats``)."""
        self.stats.reset_peaks()

    def snapshot(self) -> list[dict[str, object]]:
        """Return the segments and their blocks as ``torch.cuda.memory_snapshot()`` shapes them, without frames."""
        free = [block for pool in (self.small, self.large) for shelf in pool.in_order() for block in shelf.blocks]
        return segments_of([*free, *self.active.values()])

    def finish_free(self, block: Block) -> None:
        """Join a freed block with its free neighbours and shelve it (``free_block``)."""
        if self.events is not None:
            self.events.append(("free_completed", block.address, block.requested, block.stream))
        self.stats.finished(block.size, block.requested)
        del self.active[block.address]
        block.waits_for = None
        join(block)
        block.shelf.add(block)

    # Finding a block.

    def _free_block(self, shelf: Shelf, size: int) -> Block | None:
        # get_free_block
        settings = self.settings
        if self._collects_garbage:
            shelf.pool.searches += 1
        at = shelf.first_of(size)
        if at == len(shelf.blocks):
            return None
        if settings.expandable_segments:
            at = expandable.best_place(shelf, at)
        if not self._splits_any:
            found, limit = shelf.blocks[at].size, settings.max_split_size or 0
            if size < limit <= found:
                return None
            if size >= limit and found >= size + settings.max_non_split_rounding:
                return None
        return shelf.take(at)

    def _new_block(self, shelf: Shelf, size: int, requested: int) -> Block:
        # The second half of malloc: collect, take, and release more and more before giving up.
        wanted = self._segment_size(size)
        if self._collects_garbage:
            self._collect_garbage()
        block = self._take_from_device(shelf, size, wanted)
        if block is None and self._release_oversize(shelf, size):
            block = self._take_from_device(shelf, size, wanted)
        if block is None:
            self._release_cached()
            self.stats.alloc_retries += 1
            block = self._take_from_device(shelf, size, wanted)
        if block is None:
            raise self._out_of_memory(requested, wanted)
        return block

    def _segment_size(self, size: int) -> int:
        # get_allocation_size
        if size <= SMALL_LIMIT:
            return SMALL_SEGMENT
        if size < LARGE_SEGMENT_LIMIT:
            return self.settings.large_segment_size
        return -(-size // LARGE_ROUNDING) * LARGE_ROUNDING

    def _take_from_device(self, shelf: Shelf, size: int, wanted: int) -> Block | None:
        # alloc_block
        if self.allowed is not None and self.stats.reserved.current + wanted > self.allowed:
            return None
        if self.settings.expandable_segments:
            return expandable.grown_block(self, shelf, size)
        address = self.device.allocate(wanted)
        if address is None:
            return None
        self.stats.segments.add(1)
        self.stats.reserved.add(wanted)
        self.tell("segment_alloc", address, wanted, shelf.stream)
        return Block(address, wanted, shelf)

    def _should_split(self, block: Block, size: int) -> bool:
        # should_split
        rest = block.size - size
        if block.shelf.pool.small or self.settings.expandable_segments:
            return rest >= ROUNDING
        limit = self.settings.max_split_size
        return rest > SMALL_LIMIT and (limit is None or size < limit)

    def _split(self, rest: Block, size: int) -> Block:
        # alloc_found_block: the front goes to the caller, the rest back to the shelf.
        block = Block(rest.address, size, rest.shelf, rest.expandable)
        before = block.previous = rest.previous
        if before is not None:
            before.next = block
        block.next = rest
        rest.previous = block
        rest.address += size
        rest.size -= size
        rest.shelf.add(rest)
        return block

    # Giving memory back.

    def wait(self, block: Block, streams: set[int]) -> None:
        """Let a freed block wait for the work of these streams (``insert_events``)."""
        block.waits_for = streams
        self._waiting.append(block)

    def process_events(self) -> None:
        """Finish the frees whose events are done (``process_events``); every malloc begins with it."""
        self._some_events_done = False
        done = [block for block in self._waiting if not block.waits_for]
        self._waiting = [block for block in self._waiting if block.waits_for]
        for block in done:
            self.finish_free(block)

    def _release_cached(self) -> None:
        # release_cached_blocks, with synchronize_and_free_events before it
        self.synchronize()
        self.process_events()
        for pool in (self.large, self.small):
            waiting = [block for shelf in pool.in_order() for block in shelf.blocks]
            for block in waiting:
                if block.expandable is None and not block.is_split:
                    self.release(block)
            for block in waiting:
                if block.expandable is not None:
                    expandable.shrink(self, block)

    def release(self, block: Block) -> None:
        """Give a whole free segment back to the device (``release_block``)."""
        self.tell("segment_free", block.address, block.size, block.stream)
        block.shelf.remove(block)
        self.device.release(block.size)
        self.stats.segments.subtract(1)
        self.stats.reserved.subtract(block.size)

    def _release_oversize(self, shelf: Shelf, size: int) -> bool:
        # release_available_cached_blocks: one block that is large enough, or several from the largest down.
        limit = self.settings.max_split_size
        if limit is None:
            return False
        needed = max(size, limit)
        at = shelf.first_of(needed)
        if at < len(shelf.blocks) and shelf.blocks[at].expandable is None:
            self.release(shelf.blocks[at])
            return True
        released = 0
        for block in reversed(shelf.blocks[:at]):
            if released >= needed or block.size < limit:
                break
            if block.expandable is None:
                released += block.size
                self.release(block)
        return released >= needed

    def _collect_garbage(self) -> None:
        # garbage_collect_cached_blocks: whole free large segments of at least average age, until enough is freed
        start = int(self.settings.garbage_collection_threshold * (self.allowed or 0))
        excess = self.stats.reserved.current - start
        if excess <= 0:
            return
        searches = self.large.searches
        blocks = [block for shelf in self.large.in_order() for block in shelf.blocks]
        whole = [block for block in blocks if not block.is_split and block.expandable is None]
        while whole and excess > 0:
            average = sum(searches - block.searches_before for block in whole) / len(whole)
            old = [block for block in whole if searches - block.searches_before >= average]
            whole = [block for block in whole if searches - block.searches_before < average]
            for block in old:
                excess -= block.size
                self.release(block)

    def tell(self, action: str, address: int, size: int, stream: int) -> None:
        """Record an event where events are kept (``record_trace``)."""
        if self.events is not None:
            self.events.append((action, address, size, stream))

    def _out_of_memory(self, requested: int, wanted: int) -> OutOfMemory:
        stats = self.stats
        stats.ooms += 1
        capacity = min(limit for limit in (self.allowed, self.device.capacity) if limit is not None)
        return OutOfMemory(
            requested=requested,
            wanted=wanted,
            allocated=stats.allocated.current,
            reserved=stats.reserved.current,
            capacity=capacity,
        )
