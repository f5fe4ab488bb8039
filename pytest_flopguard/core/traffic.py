"""Bytes that op calls moved, by module and phase."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_flopguard.core.measurement import Phase


@dataclass(frozen=True, slots=True, kw_only=True)
class ByteCount:
    """Bytes that the op calls of one module and phase read and wrote."""

    module: str
    phase: Phase
    read: int
    written: int

    @property
    def moved(self) -> int:
        """Bytes read and written."""
        return self.read + self.written


@dataclass(frozen=True, slots=True, kw_only=True)
class ByteTally:
    """Bytes moved in a region: each op call reads its inputs once and writes its outputs once.

    ``unknown`` names ops whose tensors have no storage to tell the bytes of.
    """

    counts: tuple[ByteCount, ...]
    unknown: tuple[str, ...] = ()

    @property
    def at_least(self) -> int:
        """Bytes of the ops that are known."""
        return sum(each.moved for each in self.counts)

    @property
    def total(self) -> int | None:
        """Bytes of all ops; None when those of some are not known."""
        return None if self.unknown else self.at_least

    def by_module(self) -> dict[str, int]:
        """Bytes by innermost module path, most first."""
        found: dict[str, int] = {}
        for each in self.counts:
            found[each.module] = found.get(each.module, 0) + each.moved
        return dict(sorted(found.items(), key=lambda pair: (-pair[1], pair[0])))
