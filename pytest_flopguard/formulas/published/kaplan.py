"""Kaplan et al. 2020, "Scaling Laws for Neural Language Models" (arXiv 2001.08361), section 2.1 and table 1.

Per token, forward. d width, L layers, d_a attention width, d_ff MLP width, n context, V vocabulary. The context term
2*L*n*d_a is half of what a dense kernel computes: it is the causal average, which the paper does not say.
"""

from __future__ import annotations

from pytest_flopguard.formulas.sizes import positive, whole

CONTEXT_NEGLIGIBLE_BELOW = 12


def parameters(*, layers: int, width: int, attention_width: int | None = None, ff: int | None = None) -> int:
    """N = 2*d*L*(2*d_a + d_ff), without embeddings; 12*L*d^2 where d_a = d and d_ff = 4d (the defaults)."""
    d, inner, f = _widths(width, attention_width, ff)
    return 2 * d * positive("layers", layers) * (2 * inner + f)


def forward_flops(
    *, layers: int, width: int, context: int, attention_width: int | None = None, ff: int | None = None
) -> int:
    """C_forward = 2*N + 2*L*n*d_a FLOPs per token, embedding and logits left out."""
    _, inner, _ = _widths(width, attention_width, ff)
    found = parameters(layers=layers, width=width, attention_width=attention_width, ff=ff)
    return 2 * found + 2 * layers * whole("context", context) * inner


def table_1(
    *,
    layers: int,
    width: int,
    context: int,
    vocabulary: int,
    attention_width: int | None = None,
    ff: int | None = None,
) -> dict[str, int]:
    """FLOPs per token of every row of table 1: embed 4d, qkv 6*L*d*d_a, mask, project, feed-forward, de-embed 2dV."""
    d, inner, f = _widths(width, attention_width, ff)
    count = positive("layers", layers)
    return {
        "embed": 4 * d,
        "attention_qkv": 2 * count * d * 3 * inner,
        "attention_mask": 2 * count * whole("context", context) * inner,
        "attention_project": 2 * count * inner * d,
        "feedforward": 2 * count * 2 * d * f,
        "de_embed": 2 * d * positive("vocabulary", vocabulary),
    }


def context_is_negligible(*, width: int, context: int) -> bool:
    """Whether d > n/12, where the paper leaves the context term out and C = 6N per token."""
    return CONTEXT_NEGLIGIBLE_BELOW * positive("width", width) > whole("context", context)


def _widths(width: int, attention_width: int | None, ff: int | None) -> tuple[int, int, int]:
    d = positive("width", width)
    inner = d if attention_width is None else positive("attention width", attention_width)
    return d, inner, 4 * d if ff is None else positive("ff", ff)
