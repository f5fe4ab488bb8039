"""Hoffmann et al. 2022, "Training Compute-Optimal Large Language Models" (arXiv 2203.15556), appendix F.

Forward of one sequence, dense: embeddings 2sVd; per layer QKV 6sd(kH), scores 2s^2(kH), softmax 3Hs^2, values
2s^2(kH), out 2s(kH)d, MLP 4sd*ff; logits 2sdV. Backward is twice that. s sequence, d width, k key size, H heads.
Table A4 does not follow the text: its ratios come out only without embeddings and logits.
"""

from __future__ import annotations

from pytest_flopguard.formulas.sizes import positive


def forward_terms(
    *, layers: int, width: int, heads: int, key_size: int, ff: int, vocabulary: int, sequence: int
) -> dict[str, int]:
    """Forward FLOPs of one sequence by term, as appendix F lists them."""
    count, d, s = positive("layers", layers), positive("width", width), positive("sequence", sequence)
    inner = positive("key size", key_size) * positive("heads", heads)
    edge = 2 * s * positive("vocabulary", vocabulary) * d
    return {
        "embeddings": edge,
        "qkv": count * 6 * s * d * inner,
        "scores": count * 2 * s * s * inner,
        "softmax": count * 3 * heads * s * s,
        "values": count * 2 * s * s * inner,
        "out": count * 2 * s * inner * d,
        "mlp": count * 4 * s * d * positive("ff", ff),
        "logits": edge,
    }


def training_flops(
    *,
    layers: int,
    width: int,
    heads: int,
    key_size: int,
    ff: int,
    vocabulary: int,
    sequence: int,
    edges: bool = True,
) -> int:
    """FLOPs of one sequence, forward and backward; ``edges=False`` leaves embeddings and logits out, as table A4."""
    terms = forward_terms(
        layers=layers,
        width=width,
        heads=heads,
        key_size=key_size,
        ff=ff,
        vocabulary=vocabulary,
        sequence=sequence,
    )
    dropped = () if edges else ("embeddings", "logits")
    return 3 * sum(flops for name, flops in terms.items() if name not in dropped)


def parameters(*, layers: int, width: int, heads: int, key_size: int, ff: int, vocabulary: int) -> int:
    """N of table A4: L*(4d(kH) + 2d*ff + d^2 + 2d) + Vd, with relative positions d^2 + 2d in each layer."""
    d, inner = positive("width", width), positive("key size", key_size) * positive("heads", heads)
    layer = 4 * d * inner + 2 * d * positive("ff", ff) + d * d + 2 * d
    return positive("layers", layers) * layer + positive("vocabulary", vocabulary) * d
