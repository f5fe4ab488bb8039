"""What is known of a tensor on the way from scores to weights, and of the products behind it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pytest_flopguard.backends.hidden_pairs import Hidden
from pytest_flopguard.core.measurement import Cost

NO_VALUES = 'its attention mask has no values here, and attention = "causal" needs them'

UNCLEAR = 'it may be masked in a way that is not followed, and attention = "causal" needs to know'


class Product:
    """One counted op call of attention: query-key ``pairs`` of equal cost, of which masks may hide some.

    ``place`` is where it was counted, and ``call`` tells it to a person. ``hidden`` is what all of its uses so far
    hide, ``lost`` tells that its FLOPs are unknown.
    """

    __slots__ = ("call", "cost", "hidden", "lost", "pairs", "place", "used")

    def __init__(self, place: Any, call: str, cost: Cost, pairs: int) -> None:
        self.place = place
        self.call = call
        self.cost = cost
        self.pairs = pairs
        self.hidden: Hidden | None = None
        self.used = self.lost = False

    @property
    def per_pair(self) -> int:
        """Dense FLOPs of one pair; 0 where there is none, or where its pairs are not known."""
        return (self.cost.flops or 0) // self.pairs if self.pairs > 0 else 0


@dataclass(frozen=True, slots=True)
class Trail:
    """What is known of a storage: what hides pairs of it, and the products behind it with what hides theirs.

    ``weights`` tells that softmax has run, so that a hidden number is zero; before that it is minus infinity.
    """

    hidden: Hidden | None = None
    weights: bool = False
    sources: tuple[tuple[Product, Hidden | None], ...] = ()

    @property
    def products(self) -> tuple[Product, ...]:
        """The products behind it."""
        return tuple(product for product, _ in self.sources)


def scores_of(products: Iterable[Product], hidden: Hidden | None = None) -> Trail:
    """Return the trail of scores that products lead to."""
    return Trail(hidden=hidden, sources=tuple((each, None) for each in dict.fromkeys(products)))


def sources_of(trails: Iterable[Trail]) -> tuple[tuple[Product, Hidden | None], ...]:
    """Return the products behind several trails, each with what hides its pairs."""
    return tuple(source for each in trails for source in each.sources)
