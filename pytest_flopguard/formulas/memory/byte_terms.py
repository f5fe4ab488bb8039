"""A memory formula as named terms that sum: the bytes of each part and the equation that says so."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from pytest_flopguard.formulas.sizes import whole


@dataclass(frozen=True, slots=True, kw_only=True)
class ByteTerm:
    """One named part: exact bytes, and the arithmetic in the symbols of its formula."""

    name: str
    equation: str
    bytes: int

    def __post_init__(self) -> None:
        whole(f"the bytes of {self.name!r}", self.bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class ByteTerms:
    """Terms of one thing that is held in memory; ``a + b`` joins, ``layers * a`` repeats."""

    name: str
    terms: tuple[ByteTerm, ...]
    source: str = ""

    def __iter__(self) -> Iterator[ByteTerm]:
        return iter(self.terms)

    def __add__(self, other: ByteTerms) -> ByteTerms:
        if not isinstance(other, ByteTerms):
            return NotImplemented
        return replace(self, terms=(*self.terms, *other.terms))

    def __mul__(self, times: int) -> ByteTerms:
        if isinstance(times, bool) or not isinstance(times, int):
            return NotImplemented
        whole(f"the number of {self.name!r}", times)
        terms = tuple(
            ByteTerm(name=each.name, equation=f"{times}*({each.equation})", bytes=times * each.bytes) for each in self
        )
        return replace(self, terms=terms)

    __rmul__ = __mul__

    @property
    def total(self) -> int:
        """All bytes."""
        return sum(each.bytes for each in self.terms)

    def by_name(self) -> dict[str, int]:
        """Bytes by term name, in the order of the terms."""
        found: dict[str, int] = {}
        for each in self.terms:
            found[each.name] = found.get(each.name, 0) + each.bytes
        return found
