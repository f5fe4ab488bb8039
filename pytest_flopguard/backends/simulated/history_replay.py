"""A recorded history run through the model of the allocator: is every address and every segment the same?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pytest_flopguard.backends.simulated import expandable
from pytest_flopguard.backends.simulated.allocator import Allocator
from pytest_flopguard.backends.simulated.allocator_settings import AllocatorSettings
from pytest_flopguard.backends.simulated.blocks import SMALL_LIMIT, Block
from pytest_flopguard.backends.simulated.history import FREE, LIVE, PEAKS, Event, History, RecordedSegment
from pytest_flopguard.backends.simulated.recording import recorded_segments
from pytest_flopguard.backends.simulated.restored_state import restore

# Where the model puts a segment that the recording does not have: far from every real address.
NOWHERE = 1 << 62
# Streams of the replay itself, for frees that wait: a recording does not say for which stream.
FIRST_WAIT = 1 << 32


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayReport:
    """What a replay compared, and every difference as a sentence.

    ``segment_decisions`` counts the events in which memory was taken from the device or given back,
    ``partial_releases`` the times when only some of the free segments were given back: which ones is taken from the
    recording, for it depends on how full the device was. ``peaks`` are the model's, by the names of PEAKS.
    """

    events: int
    allocations: int
    segment_decisions: int
    partial_releases: int
    assumed: int
    peaks: dict[str, int]
    mismatches: tuple[str, ...]

    @property
    def equal(self) -> bool:
        """Whether the model did all that was recorded, and nothing else."""
        return not self.mismatches


def replay(history: History) -> ReplayReport:
    """Run a history through the model, with the recorded address of each new segment, and compare everything."""
    run = _Replay(history)
    while run.at < len(history.events):
        run.step()
    run.compare_end()
    return run.report()


class _Replay:
    def __init__(self, history: History) -> None:
        self.history = history
        self.events = history.events
        self.at = 0
        self.mismatches: list[str] = []
        self.allocations = self.segment_decisions = self.partial_releases = 0
        self.allocator = Allocator(AllocatorSettings.parse(history.settings), addresses=self._address, record=True)
        self.done: list[Event] = []
        self.allocator.events = self.done
        self.coming: Sequence[Event] = ()
        self.nowhere = NOWHERE
        self.live: dict[int, Block] = {}
        self.waits: dict[int, int] = {}
        self.next_wait = FIRST_WAIT
        for block in restore(self.allocator, history.initial, self._mapped_later()):
            if block.allocated:
                self.live[block.address] = block
            else:
                self._wait(block.address, block)

    def step(self) -> None:
        """Follow the next event, or the next few that belong together."""
        action, address, size, _ = self.events[self.at]
        self.done.clear()
        if action in ("alloc", "segment_alloc", "segment_map"):
            self._allocate()
        elif action in ("segment_free", "segment_unmap"):
            self._release()
        elif action == "free_requested":
            self._free(address, size)
        elif action == "free_completed":
            self._finish(address)
        else:
            self.at += 1

    def _mapped_later(self) -> list[tuple[int, int, bool]]:
        """Return where memory is mapped, with stream and pool: that of the allocation that follows."""
        found = []
        small = False
        for action, address, size, stream in reversed(self.events):
            if action == "alloc":
                small = self.allocator.settings.rounded(size) <= SMALL_LIMIT
            elif action == "segment_map":
                found.append((address, stream, small))
        return found

    def _run_of(self, *actions: str) -> list[Event]:
        end = self.at
        while end < len(self.events) and self.events[end][0] in actions:
            end += 1
        return list(self.events[self.at : end])

    def _allocate(self) -> None:
        recorded = self._run_of("segment_alloc", "segment_map")
        after = self.at + len(recorded)
        self.segment_decisions += len(recorded)
        if after == len(self.events) or self.events[after][0] != "alloc":
            self._tell(self.at, f"{_said(recorded)} was for no allocation")
            self.at = after
            return
        recorded.append(self.events[after])
        _, address, requested, stream = recorded[-1]
        self.coming = recorded[:-1]
        self.allocations += 1
        self.live[address] = self.allocator.malloc(requested, stream)
        self._compare(recorded)

    def _free(self, address: int, requested: int) -> None:
        recorded = list(self.events[self.at : self.at + 2])
        at_once = len(recorded) == 2 and recorded[1][:2] == ("free_completed", address)
        block = self.live.pop(address, None)
        if block is None:
            self._tell(self.at, f"{_said(recorded[:1])}, and no block lives there")
            self.at += 2 if at_once else 1
            return
        if not at_once:
            recorded = recorded[:1]
            self._wait(address, block)
        self.allocator.free(block)
        self._compare(recorded)

    def _wait(self, address: int, block: Block) -> None:
        """Let the free of a block wait until the recording says that it is done."""
        self.next_wait += 1
        self.waits[address] = stream = self.next_wait
        if block.allocated:
            self.allocator.record_stream(block, stream)
        elif block.waits_for is not None:
            block.waits_for.add(stream)

    def _finish(self, address: int) -> None:
        stream = self.waits.pop(address, None)
        if stream is not None:
            self.allocator.synchronize(stream)
            self.allocator.process_events()
        self._compare([self.events[self.at]])

    def _release(self) -> None:
        recorded = self._run_of("segment_free", "segment_unmap")
        self.segment_decisions += len(recorded)
        possible = releasable(self.allocator)
        self.partial_releases += len(recorded) < len(possible)
        for event in recorded:
            block = possible.get(event)
            if block is None:
                continue
            if event[0] == "segment_free":
                self.allocator.release(block)
            else:
                expandable.shrink(self.allocator, block)
        self._compare(recorded)

    def _address(self, size: int) -> int:
        """Return the recorded address of the segment that the model takes now."""
        if self.coming:
            return self.coming[0][1]
        self.nowhere += size
        return self.nowhere - size

    def _compare(self, recorded: Sequence[Event]) -> None:
        if self.done != list(recorded):
            self._tell(self.at, f"recorded {_said(recorded)}, and the model says {_said(self.done)}")
        self.coming = ()
        self.at += len(recorded)

    def _tell(self, at: int, text: str) -> None:
        self.mismatches.append(f"event {at}: {text}")

    def compare_end(self) -> None:
        """Compare every block at the end, the totals, and the peaks where the recording has them."""
        self.at = len(self.events)
        modelled = recorded_segments(self.allocator.snapshot())
        for segment in _only_in(self.history.final, modelled):
            self._tell(self.at, f"the recording ends with {_segment_said(segment)}, and the model does not")
        for segment in _only_in(modelled, self.history.final):
            self._tell(self.at, f"the model ends with {_segment_said(segment)}, and the recording does not")
        totals = self._totals()
        for name, recorded in _totals_of(self.history.final).items():
            if totals[name] != recorded:
                self._tell(self.at, f"{name} at the end: recorded {recorded}, and the model says {totals[name]}")
        for name, recorded in zip(PEAKS, self.history.peaks or (), strict=False):
            if self._peaks()[name] != recorded:
                self._tell(self.at, f"peak of {name}: recorded {recorded}, and the model says {self._peaks()[name]}")

    def _totals(self) -> dict[str, int]:
        stats = self.allocator.stats
        figures = (stats.allocated, stats.active, stats.requested, stats.reserved)
        return {name: stat.current for name, stat in zip(PEAKS, figures, strict=True)}

    def _peaks(self) -> dict[str, int]:
        stats = self.allocator.stats
        figures = (stats.allocated, stats.active, stats.requested, stats.reserved)
        return {name: stat.peak for name, stat in zip(PEAKS, figures, strict=True)}

    def report(self) -> ReplayReport:
        """Return what was compared."""
        return ReplayReport(
            events=len(self.events),
            allocations=self.allocations,
            segment_decisions=self.segment_decisions,
            partial_releases=self.partial_releases,
            assumed=self.history.assumed,
            peaks=self._peaks(),
            mismatches=tuple(self.mismatches),
        )


def releasable(allocator: Allocator) -> dict[Event, Block]:
    """Return what ``empty_cache`` would give back now, in its order, each with its block."""
    found: dict[Event, Block] = {}
    for pool in (allocator.large, allocator.small):
        blocks = [block for shelf in pool.in_order() for block in shelf.blocks]
        for block in blocks:
            if block.expandable is None and not block.is_split:
                found["segment_free", block.address, block.size, block.stream] = block
        for block in blocks:
            begin, end = expandable.whole_pages(block)
            if begin < end:
                found["segment_unmap", begin, end - begin, block.stream] = block
    return found


def _totals_of(segments: Sequence[RecordedSegment]) -> dict[str, int]:
    blocks = [block for segment in segments for block in segment.blocks]
    return {
        "allocated_bytes": sum(size for size, _, state in blocks if state == LIVE),
        "active_bytes": sum(size for size, _, state in blocks if state != FREE),
        "requested_bytes": sum(requested for _, requested, state in blocks if state != FREE),
        "reserved_bytes": sum(segment.size for segment in segments),
    }


def _only_in(some: Sequence[RecordedSegment], others: Sequence[RecordedSegment]) -> list[RecordedSegment]:
    known = set(others)
    return [segment for segment in some if segment not in known]


def _segment_said(segment: RecordedSegment) -> str:
    kind = "small" if segment.small else "large"
    blocks = ", ".join(f"{size} {('free', 'live', 'waiting')[state]}" for size, _, state in segment.blocks[:8])
    more = f" and {len(segment.blocks) - 8} more" if len(segment.blocks) > 8 else ""
    return f"a {kind} segment at {segment.address:#x} on stream {segment.stream} of {blocks}{more}"


def _said(events: Sequence[Event]) -> str:
    told = [f"{action} of {size} bytes at {address:#x} on stream {stream}" for action, address, size, stream in events]
    return ", ".join(told) or "nothing"
