"""Bytes over time in few points, however long the run: the most of each stretch of time is kept."""

from __future__ import annotations

MOST_POINTS = 512


class Timeline:
    """Keeps (tick, bytes) points, the most in each bucket of ticks; buckets double in width when there are too many.

    The first tick at which the most was reached is always among them. Ticks never go back.
    """

    __slots__ = ("_bucket", "_bytes", "_shift", "_ticks")

    def __init__(self, tick: int, value: int) -> None:
        self._shift = 0
        self._bucket = tick
        self._ticks = [tick]
        self._bytes = [value]

    def add(self, tick: int, value: int) -> None:
        """Take in the bytes from a tick on."""
        bucket = tick >> self._shift
        if bucket != self._bucket:
            self._bucket = bucket
            self._ticks.append(tick)
            self._bytes.append(value)
            if len(self._ticks) > MOST_POINTS:
                self._widen()
        elif value > self._bytes[-1]:
            self._ticks[-1] = tick
            self._bytes[-1] = value

    def raise_by(self, value: int) -> None:
        """Add bytes that were there all along."""
        self._bytes = [each + value for each in self._bytes]

    def points(self, base: int = 0) -> tuple[tuple[int, int], ...]:
        """Return the points so far, ``base`` bytes added to each."""
        return tuple((tick, base + value) for tick, value in zip(self._ticks, self._bytes, strict=True))

    def _widen(self) -> None:
        # To half of what fits, so that the next time is far away even where ticks have gaps.
        while len(self._ticks) > MOST_POINTS // 2:
            self._shift += 1
            kept: list[tuple[int, int]] = []
            for tick, value in self.points():
                if not kept or kept[-1][0] >> self._shift != tick >> self._shift:
                    kept.append((tick, value))
                elif value > kept[-1][1]:
                    kept[-1] = (tick, value)
            self._ticks = [tick for tick, _ in kept]
            self._bytes = [value for _, value in kept]
        self._bucket = self._ticks[-1] >> self._shift
