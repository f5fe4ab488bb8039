"""Attention, written out and fused. Scores 2*s*s'*d and values 2*s*s'*dv for each head, the whole square.

A fused backward counts twice its forward: the scores that a flash kernel computes again are left out.
"""

# A case says what it is by its name.
# ruff: noqa: D103

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from cases.case import Function, Program, case, rand

# Batch, heads, positions, and width of a head; the model's width is A * D.
B, A, S, D = 2, 4, 16, 16
H = A * D
CORE = 4 * B * A * S**2 * D
PROJECTIONS = 4 * 2 * B * S * H**2
# Two matrices, H to 4H and back.
FEED_FORWARD = 2 * 2 * B * S * H * (4 * H)
LAYER = PROJECTIONS + CORE + FEED_FORWARD


def heads(length: int = S, count: int = A, width: int = D) -> torch.Tensor:
    """Queries, keys or values."""
    return rand(B, count, length, width)


@case("SDPA", CORE)
def sdpa() -> Program:
    return Function(lambda q, k, v: F.scaled_dot_product_attention(q, k, v)), (heads(), heads(), heads())


@case("SDPA, causal (counted dense)", CORE)
def sdpa_causal() -> Program:
    def run(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)

    return Function(run), (heads(), heads(), heads())


@case("SDPA, mask", CORE)
def sdpa_mask() -> Program:
    mask = torch.ones(S, S, dtype=torch.bool)
    run = Function(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, attn_mask=mask))
    return run, (heads(), heads(), heads())


# Eight query heads over two heads of keys and values: each query head does its own products.
@case("SDPA, grouped-query heads", 4 * B * 8 * S**2 * D)
def sdpa_grouped() -> Program:
    run = Function(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, enable_gqa=True))
    return run, (heads(count=8), heads(count=2), heads(count=2))


# Values twice as wide as keys, over another sequence.
@case("SDPA, cross, wider values", 2 * B * A * S * 24 * (D + 2 * D))
def sdpa_cross() -> Program:
    run = Function(lambda q, k, v: F.scaled_dot_product_attention(q, k, v))
    return run, (heads(), heads(24), heads(24, width=2 * D))


@case("SDPA, math kernel", CORE)
def sdpa_math() -> Program:
    def run(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        with sdpa_kernel(SDPBackend.MATH):
            return F.scaled_dot_product_attention(q, k, v)

    return Function(run), (heads(), heads(), heads())


@case("written out: softmax(q k') v", CORE)
def eager() -> Program:
    run = Function(lambda q, k, v: (q @ k.transpose(-1, -2) / D**0.5).softmax(-1) @ v)
    return run, (heads(), heads(), heads())


# Block masks may leave work out; none is given here. On the CPU it has no backward.
@case("flex_attention", CORE, grad=False)
def flex() -> Program:
    from torch.nn.attention.flex_attention import flex_attention

    return Function(lambda q, k, v: flex_attention(q, k, v)), tuple(rand(B, A, S, D, grad=False) for _ in range(3))


# q (k' v): [S, D] with [D, D], twice.
@case("linear attention", 2 * 2 * B * A * S * D * D)
def linear() -> Program:
    return Function(lambda q, k, v: q @ (k.transpose(-1, -2) @ v)), (heads(), heads(), heads())


@case("nn.MultiheadAttention, training", PROJECTIONS + CORE)
def mha() -> Program:
    layer = nn.MultiheadAttention(H, A, batch_first=True)
    return Function(lambda x: layer(x, x, x, need_weights=False)[0], layer), (rand(B, S, H),)


# The same module without gradients runs as one fused op.
@case("nn.MultiheadAttention, eval, no_grad", PROJECTIONS + CORE, grad=False)
def mha_fused() -> Program:
    layer = nn.MultiheadAttention(H, A, batch_first=True).eval()
    return Function(lambda x: layer(x, x, x, need_weights=False)[0], layer), (rand(B, S, H, grad=False),)


# Queries and the output: S positions of H; keys and values: 24 positions, from 32 and 48 to H.
@case(
    "nn.MultiheadAttention, cross",
    2 * 2 * B * S * H**2 + 2 * B * 24 * (32 + 48) * H + 4 * B * A * S * 24 * D,
)
def mha_cross() -> Program:
    layer = nn.MultiheadAttention(H, A, kdim=32, vdim=48, batch_first=True)
    run = Function(lambda q, k, v: layer(q, k, v, need_weights=False)[0], layer)
    return run, (rand(B, S, H), rand(B, 24, 32), rand(B, 24, 48))


@case("nn.TransformerEncoderLayer, training", LAYER)
def encoder_layer() -> Program:
    return nn.TransformerEncoderLayer(H, A, 4 * H, dropout=0.0, batch_first=True), (rand(B, S, H),)


@case("nn.TransformerEncoderLayer, eval, no_grad", LAYER, grad=False)
def encoder_layer_fused() -> Program:
    return nn.TransformerEncoderLayer(H, A, 4 * H, batch_first=True).eval(), (rand(B, S, H, grad=False),)


# Encoder layer; decoder layer: itself, plus attention over the encoder: queries and output of T positions, keys and
# values of S.
T = 12
DECODER = (
    4 * 2 * B * T * H**2 + 4 * B * A * T**2 * D
    + 2 * 2 * B * T * H**2 + 2 * 2 * B * S * H**2 + 4 * B * A * T * S * D
    + 2 * 2 * B * T * H * (4 * H)
)  # fmt: skip


@case("nn.Transformer", 2 * LAYER + 3 * DECODER)
def transformer() -> Program:
    return nn.Transformer(H, A, 2, 3, 4 * H, dropout=0.0, batch_first=True), (rand(B, S, H), rand(B, T, H))
