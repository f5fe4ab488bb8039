"""What the closed forms of token mixers share: checked sizes, and the linear projections around a mixer."""

from __future__ import annotations

from types import MappingProxyType

from pytest_flopguard.formulas.breakdown import Breakdown, Term
from pytest_flopguard.formulas.sizes import positive


def sizes(**named: int) -> tuple[int, ...]:
    """Return the sizes in their order; SizeError names the first that is not a whole number of at least 1."""
    return tuple(positive(name, value) for name, value in named.items())


def breakdown(name: str, source: str, terms: tuple[Term, ...], **symbols: int) -> Breakdown:
    """Return a breakdown whose equations speak of these symbols."""
    return Breakdown(name=name, terms=terms, symbols=MappingProxyType(symbols), source=source)


def projections(*, batch: int = 1, seq: int, width: int, number: int = 4) -> Breakdown:
    """The square projections around a token mixer: 2*B*n*d*d each, 4 of them for q, k, v and o.

    Where queries and keys are one (Reformer, Routing Transformer) there are 3, with a gate (TransNormerLLM) 5.
    B batch, n positions, d width; biases are elementwise and left out. 1 multiply-add = 2 FLOPs.
    Source: Vaswani et al. 2017 (arXiv 1706.03762), section 3.2.2.
    """
    B, n, d, count = sizes(batch=batch, seq=seq, width=width, number=number)
    return breakdown(
        "projections",
        "Vaswani et al. 2017, section 3.2.2",
        (Term(name="projections", equation="2*B*n*d*d", each=2 * B * n * d * d, times=count),),
        B=B,
        n=n,
        d=d,
    )
