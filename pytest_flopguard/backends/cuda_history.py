"""Which blocks lived at the peak, from the history that the CUDA caching allocator records.

Pure functions of what ``torch.cuda.memory_snapshot()`` and ``torch.cuda.memory._snapshot()`` return. An event tells the
bytes that were asked for; its block is those rounded up to 512. It may also have a tail that the allocator does not
split off, which no event tells, so sums can be a little below the allocator's own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pytest_flopguard.backends.timeline import Timeline

Plain = Mapping[str, Any]
_SMALLEST = 512
_HELD = "active_allocated"


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Memory that was handed out by the ``number``-th allocation of its device; 0 is before anybody looked."""

    number: int
    address: int
    bytes: int
    stream: int
    frames: tuple[Plain, ...] = field(default=(), compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryPeak:
    """The blocks at the peak, what was live over time, and the numbers of all allocations by address, in order."""

    blocks: tuple[Block, ...]
    timeline: tuple[tuple[int, int], ...]
    numbers: Mapping[int, Sequence[int]]

    @property
    def bytes(self) -> int:
        """The sum of the blocks, without tails."""
        return sum(each.bytes for each in self.blocks)

    def by_stream(self) -> dict[int, int]:
        """Return bytes by stream, numbered from 0 in the order of their handles; 0 is the default stream."""
        handles = sorted({0, *(each.stream for each in self.blocks)})
        found = dict.fromkeys(range(len(handles)), 0)
        for each in self.blocks:
            found[handles.index(each.stream)] += each.bytes
        return found


def resting(segments: Iterable[Plain], device: int) -> dict[int, Block]:
    """Return the blocks that are handed out in a snapshot's segments, by address; their sizes are exact."""
    found = {}
    for segment in segments:
        if segment.get("device", device) != device:
            continue
        address = segment["address"]
        for each in segment["blocks"]:
            address = each.get("address", address)
            if each["state"] == _HELD:
                found[address] = Block(
                    number=0,
                    address=address,
                    bytes=each["size"],
                    stream=segment["stream"],
                    frames=tuple(each.get("frames", ())),
                )
            address += each["size"]
    return found


def history_peak(start: Mapping[int, Block], trace: Iterable[Plain], *, skip: int, number: int) -> HistoryPeak:
    """Replay a device's trace from the blocks that lived at the start of a region, and return its peak.

    ``skip`` allocations at the beginning of the trace were before the region; ``number`` is that of the last of them.
    """
    live, now = dict(start), sum(each.bytes for each in start.values())
    gone: list[tuple[Block, int]] = []  # with the tick at which it went
    born = dict.fromkeys(live.values(), 0)
    most, most_tick, tick = now, 0, 0
    timeline = Timeline(0, now)
    numbers: dict[int, list[int]] = {address: [0] for address in live}
    for entry in trace:
        action, address = entry["action"], entry.get("addr", 0)
        if action == "alloc" and skip:
            skip -= 1
            continue
        if skip or action not in ("alloc", "free_requested") or (action != "alloc" and address not in live):
            continue  # a block that went before the region is not there
        tick += 1
        former = live.pop(address, None)
        if former is not None:
            gone.append((former, tick))
            now -= former.bytes
        if action == "alloc":
            number += 1
            block = live[address] = _block(entry, number)
            born[block] = tick
            numbers.setdefault(address, []).append(number)
            now += block.bytes
        timeline.add(tick, now)
        if now > most:
            most, most_tick = now, tick
    held = [*gone, *((block, tick + 1) for block in live.values())]
    return HistoryPeak(
        blocks=tuple(block for block, went in held if born[block] <= most_tick < went),
        timeline=timeline.points(),
        numbers=numbers,
    )


def _block(entry: Plain, number: int) -> Block:
    return Block(
        number=number,
        address=entry["addr"],
        bytes=max(1, -(-entry["size"] // _SMALLEST)) * _SMALLEST,
        stream=entry["stream"],
        frames=tuple(entry.get("frames", ())),
    )
