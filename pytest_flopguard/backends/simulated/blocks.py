"""Blocks of device memory, and the sorted shelves on which free ones wait."""

from __future__ import annotations

from bisect import bisect_left

MIB = 1 << 20

# c10/core/AllocatorConfig.h, in the order in which they stand there.
SMALL_SEGMENT = 2 * MIB  # kSmallBuffer
ROUNDING = 512  # kMinBlockSize
SMALL_LIMIT = MIB  # kSmallSize
LARGE_SEGMENT_LIMIT = 10 * MIB  # kMinLargeAlloc
LARGE_ROUNDING = 2 * MIB  # kRoundLarge

# An address fits below this many bits, so ``size << bits | address`` sorts by size, then by address.
ADDRESS_BITS = 64


class Pool:
    """The small or the large pool: its shelves, one a stream (``BlockPool`` of CUDACachingAllocator.cpp)."""

    __slots__ = ("page", "searches", "shelves", "small")

    def __init__(self, *, small: bool, page: int) -> None:
        self.small = small
        self.page = page
        self.shelves: dict[int, Shelf] = {}
        self.searches = 0

    def shelf(self, stream: int) -> Shelf:
        """Return the shelf of a stream, made when the stream is met first."""
        found = self.shelves.get(stream)
        if found is None:
            found = self.shelves[stream] = Shelf(self, stream)
        return found

    def in_order(self) -> list[Shelf]:
        """Return the shelves by stream, the order of ``BlockComparatorSize``."""
        return [self.shelves[stream] for stream in sorted(self.shelves)]


class Block:
    """A stretch of device memory: live, waiting for events after its free, free, or unmapped.

    ``requested`` is what the last owner asked for and ``size`` what it costs, both in bytes. ``expandable`` is the
    range of addresses that the block lies in, where it lies in one that grows.
    """

    __slots__ = (
        "address",
        "allocated",
        "expandable",
        "free",
        "mapped",
        "next",
        "previous",
        "requested",
        "searches_before",
        "shelf",
        "size",
        "uses",
        "waits_for",
    )

    def __init__(self, address: int, size: int, shelf: Shelf, expandable: AddressRange | None = None) -> None:
        self.address = address
        self.size = size
        self.shelf = shelf
        self.expandable = expandable
        self.requested = 0
        self.allocated = False
        self.free = False
        self.mapped = True
        self.previous: Block | None = None
        self.next: Block | None = None
        self.uses: set[int] | None = None
        self.waits_for: set[int] | None = None
        self.searches_before = 0

    @property
    def stream(self) -> int:
        """The stream that allocated the block."""
        return self.shelf.stream

    @property
    def is_split(self) -> bool:
        """Whether the block shares its segment with another."""
        return self.previous is not None or self.next is not None

    def put_after(self, before: Block) -> None:
        """Link the block in behind another."""
        after = before.next
        self.previous, self.next = before, after
        before.next = self
        if after is not None:
            after.previous = self


class AddressRange:
    """Addresses set aside for an expandable segment; ``page`` bytes of it are mapped at a time."""

    __slots__ = ("address", "page", "size")

    def __init__(self, address: int, size: int, page: int) -> None:
        self.address = address
        self.size = size
        self.page = page


class Shelf:
    """The free blocks of one pool and stream by (size, address), and its unmapped ones by address."""

    __slots__ = ("blocks", "keys", "pool", "stream", "unmapped", "unmapped_keys")

    def __init__(self, pool: Pool, stream: int) -> None:
        self.pool = pool
        self.stream = stream
        self.keys: list[int] = []
        self.blocks: list[Block] = []
        self.unmapped_keys: list[int] = []
        self.unmapped: list[Block] = []

    def add(self, block: Block) -> None:
        """Take a free block in; its age in searches begins anew (``insert_into_blocks``)."""
        key = block.size << ADDRESS_BITS | block.address
        at = bisect_left(self.keys, key)
        self.keys.insert(at, key)
        self.blocks.insert(at, block)
        block.free = True
        block.searches_before = self.pool.searches

    def remove(self, block: Block) -> None:
        """Take a block off the shelf, before its size or address change."""
        at = bisect_left(self.keys, block.size << ADDRESS_BITS | block.address)
        del self.keys[at], self.blocks[at]
        block.free = False

    def take(self, at: int) -> Block:
        """Take the block at a place off the shelf."""
        block = self.blocks[at]
        del self.keys[at], self.blocks[at]
        block.free = False
        return block

    def first_of(self, size: int) -> int:
        """Return the place of the smallest block of at least so many bytes, the lowest address among equals."""
        return bisect_left(self.keys, size << ADDRESS_BITS)

    def add_unmapped(self, block: Block) -> None:
        """Take in a stretch of addresses with no memory behind it."""
        at = bisect_left(self.unmapped_keys, block.address)
        self.unmapped_keys.insert(at, block.address)
        self.unmapped.insert(at, block)
        block.free = True
        block.mapped = False

    def remove_unmapped(self, block: Block) -> None:
        """Take an unmapped stretch out."""
        at = bisect_left(self.unmapped_keys, block.address)
        del self.unmapped_keys[at], self.unmapped[at]
        block.free = False


def join(block: Block) -> None:
    """Let a block that is on no shelf absorb its free neighbours (the two calls of ``try_merge_blocks``)."""
    before, after = block.previous, block.next
    if before is not None and before.free and before.mapped == block.mapped:
        _take_out(before)
        block.address = before.address
        block.size += before.size
        block.previous = before.previous
        if block.previous is not None:
            block.previous.next = block
    if after is not None and after.free and after.mapped == block.mapped:
        _take_out(after)
        block.size += after.size
        block.next = after.next
        if block.next is not None:
            block.next.previous = block


def _take_out(block: Block) -> None:
    if block.mapped:
        block.shelf.remove(block)
    else:
        block.shelf.remove_unmapped(block)
