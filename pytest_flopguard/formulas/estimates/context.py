"""What attention costs beside the rest of a model, as the context grows."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from pytest_flopguard.core.errors import SizeError, message
from pytest_flopguard.formulas.architectures.models import checked_length, closed_form
from pytest_flopguard.formulas.estimates.asked import Subject
from pytest_flopguard.formulas.estimates.work import EDGES, in_core


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextCost:
    """Forward FLOPs of one sequence of ``seq`` tokens, exact.

    ``core`` are scores and values, ``layers`` all else in the layers, ``edges`` what stands around them (the logits).
    """

    seq: int
    attention: str
    core: int
    layers: int
    edges: int

    @property
    def total(self) -> int:
        """All FLOPs."""
        return self.core + self.layers + self.edges

    @property
    def overhead(self) -> Fraction:
        """Attention over all else in the layers.

        With multi-head attention and 24*h^2 FLOPs a token and layer beside it, causal, (s + 1)/(12*h): Harm de Vries
        2023, "In the long (context) run".
        """
        return Fraction(self.core, self.layers)

    @property
    def share(self) -> Fraction:
        """Attention's part of all FLOPs."""
        return Fraction(self.core, self.total)

    @property
    def per_token(self) -> Fraction:
        """FLOPs of a token, on average."""
        return Fraction(self.total, self.seq)


def context_cost(subject: Subject, seq: int, attention: str) -> ContextCost:
    """Return what a context of ``seq`` tokens costs; the same shares hold forward and backward."""
    if subject.sizes is None or subject.reads_images:
        rule = "a model that reads sequences of any length"
        raise SizeError(message("bad-size", name="MODEL", value=subject.name, rule=rule))
    form = closed_form(subject.sizes, seq=checked_length(subject.sizes, seq), attention=attention)
    core = sum(each.forward for each in form if in_core(each.name))
    edges = sum(each.forward for each in form if each.name in EDGES)
    return ContextCost(seq=seq, attention=attention, core=core, layers=form.forward - core - edges, edges=edges)
