"""A closed form as named terms that sum: what each part of a model must cost, and the equation that says so."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Literal

from pytest_flopguard.formulas.sizes import whole

# A product C = A B has two gradients, dA = dC B^T and dB = A^T dC, each as large as the product itself.
BOTH_GRADIENTS = 2
ONE_GRADIENT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """One named part of a model: FLOPs of one occurrence, and how many there are.

    ``equation`` is the arithmetic in the breakdown's symbols (``"2*B*s*h*(h + 2*kv)"``). ``backward`` is twice the
    forward unless an operand needs no gradient (``backward_each=each`` for the first layer on raw inputs).
    ``recompute_each`` is what checkpointing does again. ``modules`` is a regular expression of the module paths whose
    op calls belong to this term, empty where nothing is said of it.
    """

    name: str
    equation: str
    each: int
    times: int = 1
    backward_each: int | None = None
    recompute_each: int = 0
    modules: str = ""

    def __post_init__(self) -> None:
        whole(f"the FLOPs of {self.name!r}", self.each)
        whole(f"the number of {self.name!r}", self.times)
        whole(f"the recomputed FLOPs of {self.name!r}", self.recompute_each)
        if self.backward_each is not None:
            whole(f"the backward FLOPs of {self.name!r}", self.backward_each)

    @property
    def forward(self) -> int:
        """FLOPs of one forward pass."""
        return self.each * self.times

    @property
    def backward(self) -> int:
        """FLOPs of one backward pass."""
        one = BOTH_GRADIENTS * self.each if self.backward_each is None else self.backward_each
        return one * self.times

    @property
    def recompute(self) -> int:
        """FLOPs that checkpointing does again during one backward pass."""
        return self.recompute_each * self.times

    @property
    def training_step(self) -> int:
        """FLOPs of forward and backward, nothing recomputed."""
        return self.forward + self.backward


@dataclass(frozen=True, slots=True, kw_only=True)
class Breakdown:
    """Terms that sum to a model's FLOPs. Exact integers; 1 multiply-add = 2 FLOPs.

    ``symbols`` are the values that the equations speak of, ``source`` the paper and equation. ``attention`` is the
    convention of the terms, ``"dense"`` or ``"causal"``, and ``""`` where the form does not say.
    ``a + b`` joins, ``layers * a`` repeats.
    """

    name: str
    terms: tuple[Term, ...] = ()
    symbols: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    source: str = ""
    attention: Literal["", "dense", "causal"] = ""

    def __iter__(self) -> Iterator[Term]:
        return iter(self.terms)

    def __add__(self, other: Breakdown) -> Breakdown:
        if not isinstance(other, Breakdown):
            return NotImplemented
        conventions = {each.attention for each in (self, other) if each.attention}
        return replace(
            self,
            terms=_joined((*self.terms, *other.terms)),
            symbols=MappingProxyType({**self.symbols, **other.symbols}),
            attention=conventions.pop() if len(conventions) == 1 else "",
        )

    def __mul__(self, times: int) -> Breakdown:
        if isinstance(times, bool) or not isinstance(times, int):
            return NotImplemented
        whole(f"the number of {self.name!r}", times)
        return replace(self, terms=tuple(replace(each, times=each.times * times) for each in self.terms))

    __rmul__ = __mul__

    @property
    def forward(self) -> int:
        """FLOPs of one forward pass."""
        return sum(each.forward for each in self.terms)

    @property
    def backward(self) -> int:
        """FLOPs of one backward pass, without recompute."""
        return sum(each.backward for each in self.terms)

    @property
    def recompute(self) -> int:
        """FLOPs that checkpointing does again during one backward pass."""
        return sum(each.recompute for each in self.terms)

    @property
    def training_step(self) -> int:
        """FLOPs of forward and backward, nothing recomputed: the model FLOPs of one step."""
        return self.forward + self.backward

    @property
    def hardware_step(self) -> int:
        """FLOPs that one step really does: forward, backward and recompute."""
        return self.training_step + self.recompute

    def recomputed(self, *names: str, but: tuple[str, ...] = ()) -> Breakdown:
        """Return the breakdown with the named terms (all of them where none is named) done again, save those in but."""
        return replace(
            self,
            terms=tuple(
                replace(each, recompute_each=each.each)
                if (not names or each.name in names) and each.name not in but
                else each
                for each in self.terms
            ),
        )

    def by_name(self) -> dict[str, int]:
        """Forward FLOPs by term name, dearest first."""
        found: dict[str, int] = {}
        for each in self.terms:
            found[each.name] = found.get(each.name, 0) + each.forward
        return dict(sorted(found.items(), key=lambda pair: (-pair[1], pair[0])))


def _joined(terms: Iterable[Term]) -> tuple[Term, ...]:
    """Let terms that differ in nothing but their number be one."""
    found: dict[Term, int] = {}
    for each in terms:
        alike = replace(each, times=1)
        found[alike] = found.get(alike, 0) + each.times
    return tuple(replace(alike, times=times) for alike, times in found.items())
