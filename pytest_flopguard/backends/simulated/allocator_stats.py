"""What the allocator counts, now and at most."""

from __future__ import annotations


class Stat:
    """A count with its peak since the last reset (``Stat`` of c10/core/Allocator.h)."""

    __slots__ = ("current", "peak")

    def __init__(self) -> None:
        self.current = 0
        self.peak = 0

    def add(self, amount: int) -> None:
        """Count up, and the peak with it."""
        self.current += amount
        if self.current > self.peak:
            self.peak = self.current

    def subtract(self, amount: int) -> None:
        """Count down; the peak stays."""
        self.current -= amount

    def reset_peak(self) -> None:
        """Let the peak begin anew at what there is now."""
        self.peak = self.current


class AllocatorStats:
    """The counts of ``DeviceStats`` (c10/core/CachingDeviceAllocator.h) that a prediction speaks of.

    In bytes: ``requested`` as asked for, ``allocated`` as live blocks cost, ``active`` with blocks that are freed but
    wait for another stream, ``reserved`` as taken from the device. In numbers: ``segments`` (expandable ones are not
    counted, as torch does not), ``alloc_retries`` and ``ooms``.
    """

    __slots__ = ("active", "alloc_retries", "allocated", "ooms", "requested", "reserved", "segments")

    def __init__(self) -> None:
        self.requested = Stat()
        self.allocated = Stat()
        self.active = Stat()
        self.reserved = Stat()
        self.segments = Stat()
        self.alloc_retries = 0
        self.ooms = 0

    def took(self, size: int, requested: int) -> None:
        """Count a block that went live."""
        self.allocated.add(size)
        self.active.add(size)
        self.requested.add(requested)

    def finished(self, size: int, requested: int) -> None:
        """Count a block that is free again; the bytes asked for go with it, not with the call of ``free``."""
        self.active.current -= size
        self.requested.current -= requested

    def reset_peaks(self) -> None:
        """Let every peak begin anew (``resetPeakStats``)."""
        for stat in (self.requested, self.allocated, self.active, self.reserved, self.segments):
            stat.reset_peak()
