"""Which query-key pairs are hidden, and what several masks hide together."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass

import torch

RESHAPED = 'its attention mask has another shape than its scores, and attention = "causal" needs both'


@dataclass(frozen=True, slots=True)
class Hidden:
    """Hidden pairs of scores of ``shape``: ``where`` broadcasts to it, and is None where that is not known."""

    where: torch.Tensor | None
    shape: torch.Size
    reason: str = ""

    @property
    def pairs(self) -> int:
        """Number of hidden pairs."""
        if self.where is None or not self.where.numel():
            return 0
        return int(self.where.sum()) * (self.shape.numel() // self.where.numel())


def either(*masks: Hidden | None) -> Hidden | None:
    """Return the pairs that any of the masks hides; None hides nothing."""
    found: Hidden | None = None
    for each in masks:
        found = _joined(found, each, operator.or_) if found is not None and each is not None else found or each
    return found


def both(*masks: Hidden | None) -> Hidden | None:
    """Return the pairs that all of the masks hide; None hides nothing, whatever is not known of the others."""
    if any(each is None for each in masks):
        return None
    first, *rest = (each for each in masks if each is not None)
    for each in rest:
        first = _joined(first, each, operator.and_)
    return first


def _joined(first: Hidden, second: Hidden, join: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> Hidden:
    if first.where is None or second.where is None:
        return first if first.where is None else second
    if first.shape != second.shape:
        return Hidden(None, second.shape, RESHAPED)
    return Hidden(join(first.where, second.where), second.shape)
