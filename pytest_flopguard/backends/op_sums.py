"""What a watch adds up: the calls of one op in one place, and the calls whose FLOPs are not known."""

from __future__ import annotations

from typing import NamedTuple

from pytest_flopguard.core.measurement import Phase


class Place(NamedTuple):
    """Where calls of one op are summed."""

    op: str
    module: str
    phase: Phase
    at_most: str = ""


class Unseen(NamedTuple):
    """Calls of an op whose FLOPs are not known, alike in every respect."""

    place: Place
    call: str
    reason: str
    dense_flops: int | None = None


class Sum:
    """Running sums of one op in one place."""

    __slots__ = ("calls", "flops", "kernel_recompute", "masked")

    def __init__(self) -> None:
        self.calls = self.flops = self.kernel_recompute = self.masked = 0

    @property
    def amounts(self) -> tuple[int, int, int, int]:
        """All four, to be subtracted from later ones."""
        return self.calls, self.flops, self.kernel_recompute, self.masked
