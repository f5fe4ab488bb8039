"""Blocks as the plain segments that ``torch.cuda.memory_snapshot()`` returns and its memory viewer reads."""

from __future__ import annotations

from collections.abc import Iterable

from pytest_flopguard.backends.simulated.blocks import Block


def segments_of(blocks: Iterable[Block]) -> list[dict[str, object]]:
    """Return one segment for each run of mapped blocks, by address (``snapshot`` of CUDACachingAllocator.cpp)."""
    heads = [block for block in blocks if block.previous is None or not block.previous.mapped]
    return [_segment(head) for head in sorted(heads, key=lambda head: head.address)]


def _segment(head: Block) -> dict[str, object]:
    run: list[Block] = []
    block: Block | None = head
    while block is not None and block.mapped:
        run.append(block)
        block = block.next
    active = [each for each in run if not each.free]
    return {
        "device": 0,
        "address": head.address,
        "total_size": sum(each.size for each in run),
        "allocated_size": sum(each.size for each in run if each.allocated),
        "active_size": sum(each.size for each in active),
        "requested_size": sum(each.requested for each in active),
        "stream": head.stream,
        "segment_type": "small" if head.shelf.pool.small else "large",
        "segment_pool_id": (0, 0),
        "is_expandable": head.expandable is not None,
        "frames": [],
        "blocks": [_block(each) for each in run],
    }


def _block(block: Block) -> dict[str, object]:
    waiting = "inactive" if block.free else "active_pending_free"
    return {
        "address": block.address,
        "size": block.size,
        "requested_size": block.requested,
        "state": "active_allocated" if block.allocated else waiting,
        "frames": [],
    }
