"""Causal linear attention in chunks: Lightning, TransNormerLLM, HGRN2, cosFormer2.

Inside a chunk of C positions scores come first; what came before the chunk is one state of d/h times d/h in each
head, which is read, and then updated by the chunk. Decays and gates are elementwise, 0, whether they depend on the
data (HGRN2) or not (TransNormerLLM). Every closed form is the mixer alone: join ``projections`` of mixer.py, 5 for
TransNormerLLM (q, k, v, gate, o), 4 for HGRN2 (q, f, i, o) and cosFormer2. Symbols: B batch, n positions, d width, h
heads. 1 multiply-add = 2 FLOPs.
"""

from __future__ import annotations

from pytest_flopguard.core.errors import unknown_name
from pytest_flopguard.formulas.architectures.mixer import breakdown, sizes
from pytest_flopguard.formulas.breakdown import Breakdown, Term
from pytest_flopguard.formulas.sizes import divided


def lightning(*, batch: int = 1, seq: int, width: int, heads: int, chunk: int, features: int = 1) -> Breakdown:
    """Lightning attention v2, and any gated linear attention in chunks: (2f + 2)*B*n*C*d + 4f*B*n*d*d/h.

    ``features`` f is 1, or 2 where keys and queries are doubled (cosFormer2's cosine and sine). Backward: the state
    that the first chunk reads is constant, so that read is multiplied back once and not twice; nothing reads the last
    chunk's update, so it has no backward. Version 1, which forms all scores, is ``left_product`` of linear_attention.
    Source: Qin et al. 2024 (arXiv 2401.04658), Algorithm 1; Yang et al. 2023 (arXiv 2312.06635), section 4; HGRN2: Qin
    et al. 2024 (arXiv 2404.07904), section 3. The products of Shen et al. 2024 (arXiv 2406.16690), appendix A.1.
    """
    B, f = sizes(batch=batch, features=features)
    chunks = divided("seq", seq, "chunk", chunk)
    divided("width", width, "heads", heads)
    n, d, h, C = seq, width, heads, chunk
    state = 2 * B * C * f * d * d // h
    terms = (
        Term(name="scores", equation="2*B*n*C*f*d", each=2 * B * n * C * f * d),
        Term(name="values", equation="2*B*n*C*d", each=2 * B * n * C * d),
        Term(name="state_read", equation="2*B*C*f*d*d//h", each=state, times=chunks - 1),
        Term(name="state_read", equation="2*B*C*f*d*d//h", each=state, backward_each=state),
        Term(name="state_update", equation="2*B*C*f*d*d//h", each=state, times=chunks - 1),
        Term(name="state_update", equation="2*B*C*f*d*d//h", each=state, backward_each=0),
    )
    source = "Qin et al. 2024 (arXiv 2401.04658), Algorithm 1"
    return breakdown("chunked linear attention", source, terms, B=B, n=n, d=d, h=h, C=C, f=f)


def decode_step(*, batch: int = 1, width: int, heads: int, features: int = 1) -> Breakdown:
    """One new token of any linear attention: the state is read, 2*f*B*d*d/h, however long the text is.

    The update is an outer product that is added, elementwise.
    Source: Qin et al. 2023 (arXiv 2307.14995), on robust inference.
    """
    B, f = sizes(batch=batch, features=features)
    divided("width", width, "heads", heads)
    d, h = width, heads
    terms = (Term(name="state_read", equation="2*B*f*d*d//h", each=2 * B * f * d * d // h),)
    return breakdown("linear attention, one token", "Qin et al. 2023 (arXiv 2307.14995)", terms, B=B, d=d, h=h, f=f)


def gated_units(*, batch: int = 1, seq: int, width: int, inner: int) -> Breakdown:
    """TransNormerLLM's channel mixer (SGLU): (x V * x U) O, no activation, 6*B*n*d*inner.

    Source: Qin et al. 2023 (arXiv 2307.14995), on gates.
    """
    B, n, d, ff = sizes(batch=batch, seq=seq, width=width, inner=inner)
    terms = (Term(name="mlp", equation="2*B*n*d*ff", each=2 * B * n * d * ff, times=3),)
    return breakdown("gated units", "Qin et al. 2023 (arXiv 2307.14995)", terms, B=B, n=n, d=d, ff=ff)


def published_step(model: str, *, batch: int, seq: int, layers: int, width: int, heads: int) -> int:
    """FLOPs of one training step as Shen et al. print them: 72*b*n*l*d*d*(1 + x), by model.

    x: LLaMA n/(6d) + 5/(18d); TNL 1/(2h) + 5/(18d); HGRN2 1/(3h) + 29/(72d); cosFormer2 3/(4h) + 23/(72d). Embeddings
    and logits are left out, some elementwise work is in: a convention of its own, kept for comparison with the paper. h
    must divide d.
    Source: Shen et al. 2024 (arXiv 2406.16690); the formulas are also table 1 of MiniMax-01 (arXiv 2501.08313).
    """
    b, n, count = sizes(batch=batch, seq=seq, layers=layers)
    head = divided("width", width, "heads", heads)
    d = width
    # 72*d*d*x, which is whole: d*d/h is d times the width of a head.
    more = {
        "LLaMA": 12 * n * d + 20 * d,
        "TNL": 36 * d * head + 20 * d,
        "HGRN2": 24 * d * head + 29 * d,
        "cosFormer2": 54 * d * head + 23 * d,
    }
    if model not in more:
        raise unknown_name("model", model, more)
    return b * n * count * (72 * d * d + more[model])
