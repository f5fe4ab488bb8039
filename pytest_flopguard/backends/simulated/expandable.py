"""Expandable segments: one range of addresses a pool and stream, memory put behind it page by page.

The functions named here stand in c10/cuda/CUDACachingAllocator.cpp. A page is 2 MiB in the small pool and
``large_segment_size_mb`` in the large one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_flopguard.backends.simulated.blocks import AddressRange, Block, Shelf, join

if TYPE_CHECKING:
    from pytest_flopguard.backends.simulated.allocator import Allocator


def best_place(shelf: Shelf, at: int) -> int:
    """Return the place of the block to take, from the first that is large enough (``get_free_block``).

    A block before unmapped addresses counts as large as it can grow, so a whole one behind it on the shelf wins.
    """
    blocks = shelf.blocks
    while at + 1 < len(blocks) and _can_grow_to(blocks[at + 1]) < _can_grow_to(blocks[at]):
        at += 1
    return at


def _can_grow_to(block: Block) -> int:
    after = block.next
    return block.size + (after.size if after is not None and not after.mapped else 0)


def grown_block(allocator: Allocator, shelf: Shelf, size: int) -> Block | None:
    """Map addresses until a block has so many bytes, and take it (``try_allocate_expandable_block``)."""
    block = _place_to_grow(allocator, shelf, size)
    if not block.mapped and not _map(allocator, block, min(block.size, size)):
        return None
    while block.size < size:
        after = block.next
        if after is None or not _map(allocator, after, min(size - block.size, after.size)):
            return None
        block = after  # mapping joined the two, and the later one stayed
    shelf.remove(block)
    return block


def _place_to_grow(allocator: Allocator, shelf: Shelf, size: int) -> Block:
    # find_expandable_block: the lowest addresses with room, of free and unmapped blocks side by side
    for unmapped in shelf.unmapped:
        before = unmapped.previous
        first = before if before is not None and before.free else unmapped
        if _has_room(first, size):
            return first
    page = shelf.pool.page
    length = -(-allocator.device.range_size // page) * page
    range_ = AddressRange(allocator.device.reserve(length), length, page)
    fresh = Block(range_.address, length, shelf, range_)
    shelf.add_unmapped(fresh)
    return fresh


def _has_room(block: Block | None, size: int) -> bool:
    while size > 0 and block is not None and block.free:
        size -= block.size
        block = block.next
    return size <= 0


def _map(allocator: Allocator, block: Block, size: int) -> bool:
    # map_block
    range_ = block.expandable
    assert range_ is not None
    mapped = -(-size // range_.page) * range_.page
    if not allocator.device.map(mapped):
        return False
    shelf = block.shelf
    shelf.remove_unmapped(block)
    block.mapped = True
    if mapped < block.size:
        rest = Block(block.address + mapped, block.size - mapped, shelf, range_)
        rest.mapped = False
        rest.put_after(block)
        shelf.add_unmapped(rest)
        block.size = mapped
    address = block.address
    join(block)
    shelf.add(block)
    allocator.stats.reserved.add(mapped)
    allocator.tell("segment_map", address, mapped, shelf.stream)
    return True


def shrink(allocator: Allocator, block: Block) -> None:
    """Unmap the whole pages of a free block, and drop its range once nothing of it is mapped (``unmap_block``)."""
    begin, end = whole_pages(block)
    if begin >= end:
        return
    shelf = block.shelf
    shelf.remove(block)
    if begin > block.address:
        _cut_front(block, begin - block.address)
    if block.address + block.size > end:
        _cut_back(block, block.address + block.size - end)
    block.mapped = False
    join(block)
    shelf.add_unmapped(block)
    allocator.device.release(end - begin)
    allocator.stats.reserved.subtract(end - begin)
    allocator.tell("segment_unmap", begin, end - begin, shelf.stream)
    if not block.is_split:
        shelf.remove_unmapped(block)  # release_expandable_segment


def whole_pages(block: Block) -> tuple[int, int]:
    """Return the addresses between which a block of an expandable segment fills whole pages, none for other blocks."""
    range_ = block.expandable
    if range_ is None:
        return 0, 0
    before, after = block.address - range_.address, block.address + block.size - range_.address
    return range_.address + -(-before // range_.page) * range_.page, range_.address + after // range_.page * range_.page


def _cut_front(block: Block, size: int) -> None:
    front = Block(block.address, size, block.shelf, block.expandable)
    front.previous = block.previous
    if front.previous is not None:
        front.previous.next = front
    front.next, block.previous = block, front
    block.address += size
    block.size -= size
    block.shelf.add(front)


def _cut_back(block: Block, size: int) -> None:
    block.size -= size
    back = Block(block.address + block.size, size, block.shelf, block.expandable)
    back.put_after(block)
    block.shelf.add(back)
