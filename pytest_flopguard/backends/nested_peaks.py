"""Peaks of nested regions, from counters that remember only the peak since their last reset."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

Bytes = Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What one device's counters say: bytes now, and the peak since the last reset, by the figure's name."""

    current: Bytes
    peak: Bytes


@dataclass(slots=True, eq=False)  # two regions with equal numbers are two regions
class Span:
    """An open region: bytes at its start and its peak so far, by device and figure."""

    start: dict[int, dict[str, int]]
    peak: dict[int, dict[str, int]]

    def fold(self, readings: Mapping[int, Reading]) -> None:
        """Take in what the counters saw since they were last reset."""
        for device, reading in readings.items():
            known = self.peak.setdefault(device, {})
            for figure, value in reading.peak.items():
                known[figure] = max(known.get(figure, 0), value)


class NestedPeaks:
    """The open regions. Whoever owns the counters resets their peaks after each ``open``, and only then."""

    def __init__(self) -> None:
        self._open: list[Span] = []

    def __len__(self) -> int:
        return len(self._open)

    def open(self, readings: Mapping[int, Reading]) -> Span:
        """Begin a region; the outer ones keep the peak that the coming reset would forget."""
        self._fold(readings)
        now = {device: dict(reading.current) for device, reading in readings.items()}
        span = Span(now, {device: dict(figures) for device, figures in now.items()})
        self._open.append(span)
        return span

    def close(self, span: Span, readings: Mapping[int, Reading]) -> Span:
        """End a region, in any order, and return it with its peak. A device that is new to it started at 0."""
        self._fold(readings)
        self._open.remove(span)
        return span

    def clear(self) -> None:
        """Forget all open regions."""
        self._open.clear()

    def _fold(self, readings: Mapping[int, Reading]) -> None:
        for each in self._open:
            each.fold(readings)
