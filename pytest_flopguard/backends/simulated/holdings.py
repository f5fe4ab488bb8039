"""The blocks that a simulated device's allocator has given out: whose they are, and who held the peaks of regions."""

from __future__ import annotations

from collections import deque
from threading import Lock

from pytest_flopguard.backends.simulated.allocator import Allocator
from pytest_flopguard.backends.simulated.blocks import Block
from pytest_flopguard.backends.storage_roles import Role
from pytest_flopguard.backends.timeline import Timeline
from pytest_flopguard.core.measurement import Phase
from pytest_flopguard.core.owners import Owner, merged

# What a block may be longer than what was asked for (Allocator.should_split leaves up to 1 MiB unsplit).
_TAIL = 2**20


class Held:
    """A block that was given out, with what is known of it. Times are ticks; no death yet is None."""

    __slots__ = ("block", "born", "died", "role", "size")

    def __init__(self, block: Block, born: int, role: Role) -> None:
        self.block = block
        self.size = block.size
        self.born = born
        self.died: int | None = None
        self.role = role


class Span:
    """An open region: the figures at its start and its peaks, in bytes, and the tick of the peak.

    ``unknown`` names memory that was taken and is in no figure. With it the peak is at most ``at_most``, None where
    there is no bound.
    """

    __slots__ = (
        "allocated",
        "at_most",
        "began",
        "requested",
        "reserved",
        "start",
        "start_reserved",
        "tick",
        "timeline",
        "unknown",
    )

    def __init__(self, allocator: Allocator, tick: int) -> None:
        stats = allocator.stats
        self.start = self.allocated = stats.allocated.current
        self.requested = stats.requested.current
        self.start_reserved = self.reserved = stats.reserved.current
        self.began = self.tick = tick
        self.timeline = Timeline(tick, self.start)
        self.unknown: dict[str, None] = {}
        self.at_most: int | None = 0

    def was_there(self, size: int, requested: int) -> None:
        """Add a block that was taken before the region began."""
        self.start += size
        self.allocated += size
        self.requested += requested
        self.timeline.raise_by(size)

    def holds(self, held: Held) -> bool:
        """Whether a block was alive at this region's peak."""
        return held.born <= self.tick and (held.died is None or held.died > self.tick)


class Holdings:
    """Takes blocks from an allocator for owners, and keeps the peaks of open regions with their owners.

    Blocks may be given back at any time and from any thread, also in the middle of another call: tensors die when
    Python says so.
    """

    def __init__(self, allocator: Allocator) -> None:
        self.allocator = allocator
        self._tick = 0
        self._spans: list[Span] = []
        self._alive: dict[int, Held] = {}
        self._dead: list[Held] = []  # died, but alive at the peak of an open region
        self._given_back: deque[Held] = deque()
        self._lock = Lock()

    def take(self, size: int, role: Role, stream: int = 0, *, early: bool = False) -> Held:
        """Allocate ``size`` bytes for a role. Raises OutOfMemory.

        ``early`` is for memory that was there before all regions: it counts in their starts and in their peaks so far.
        """
        with self._lock:
            self._settle()
            stats = self.allocator.stats
            peaks = stats.allocated.peak, stats.requested.peak
            block = self.allocator.malloc(size, stream)
            if early:
                for span in self._spans:
                    span.was_there(block.size, size)
                stats.allocated.peak, stats.requested.peak = peaks[0] + block.size, peaks[1] + size
            else:
                self._tick += 1
            held = Held(block, 0 if early else self._tick, role)
            self._alive[id(held)] = held
            self._grew()
            self._settle()
        return held

    def missed(self, reason: str, most: int | None) -> None:
        """Note that a kernel takes memory now that is not known; ``most`` bounds it, in bytes."""
        with self._lock:
            bound = None if most is None else self.allocator.stats.allocated.current + most + _TAIL
            for span in self._spans:
                span.unknown[reason] = None
                span.at_most = None if span.at_most is None or bound is None else max(span.at_most, bound)

    def give_back(self, held: Held) -> None:
        """Free a block, now or as soon as the call that is at work has ended."""
        self._given_back.append(held)
        if self._lock.acquire(blocking=False):
            try:
                self._settle()
            finally:
                self._lock.release()

    def open(self) -> Span:
        """Begin a region at what is held now."""
        with self._lock:
            self._settle()
            span = Span(self.allocator, self._tick)
            self._spans.append(span)
            return span

    def close(self, span: Span) -> tuple[tuple[Owner, ...], Phase | None]:
        """End a region, in any order, and return the owners of its peak and the phase in which it was reached."""
        with self._lock:
            self._settle()
            self._spans.remove(span)
            held = [each for each in (*self._alive.values(), *self._dead) if span.holds(each)]
            self._forget_dead()
            last = max(held, key=lambda each: each.born, default=None)
            return merged(map(_owner, held)), last.role.phase if last and last.born > span.began else None

    def alive(self) -> tuple[Owner, ...]:
        """Return who holds memory now."""
        with self._lock:
            self._settle()
            return merged(map(_owner, self._alive.values()))

    def _grew(self) -> None:
        stats = self.allocator.stats
        allocated, requested, reserved = stats.allocated.current, stats.requested.current, stats.reserved.current
        for span in self._spans:
            if allocated > span.allocated:
                span.allocated = allocated
                span.tick = self._tick
            if requested > span.requested:
                span.requested = requested
            if reserved > span.reserved:
                span.reserved = reserved
            span.timeline.add(self._tick, allocated)

    def _settle(self) -> None:
        while self._given_back:
            held = self._given_back.popleft()
            del self._alive[id(held)]
            self.allocator.free(held.block)
            self._tick += 1
            held.died = self._tick
            allocated = self.allocator.stats.allocated.current
            for span in self._spans:
                span.timeline.add(self._tick, allocated)
            if any(span.holds(held) for span in self._spans):
                self._dead.append(held)
                if len(self._dead) % 10_000 == 0:
                    self._forget_dead()

    def _forget_dead(self) -> None:
        self._dead = [each for each in self._dead if any(span.holds(each) for span in self._spans)]


def _owner(held: Held) -> Owner:
    return held.role.owner(held.size)
