"""Scaled dot-product attention, fused in one op. Dense convention: every query meets every key.

Scores Q K^T: batch * heads * S_q * S_k dot products of length d. Values P V: as many of length S_k and width d_v.
Together 2 * B * H * S_q * S_k * (d + d_v) FLOPs; H is the number of *query* heads, since each of them meets its
key/value head, shared or not. Softmax, scale, mask and dropout are elementwise and left out.

Backward has four products (dV = P^T dO, dP = dO V^T, dQ = dS K, dK = dS^T Q), each of one forward product's size:
twice the forward. Flash-like kernels compute Q K^T once more instead of keeping it; that is ``kernel_recompute``,
told apart, since an eager backward does not do it and the same model must count the same everywhere.
"""

from __future__ import annotations

from math import prod
from typing import Any

from pytest_flopguard.core.measurement import Cost
from pytest_flopguard.core.tensors import TensorSpec
from pytest_flopguard.formulas.ops.matmul import broadcast
from pytest_flopguard.formulas.registry import Unknown, formula


def _refuse_packed(cum_seq_q: TensorSpec | None, cum_seq_k: TensorSpec | None) -> None:
    """Packed sequences of different lengths: their FLOPs depend on values. A dense backward gets empty tensors."""
    if any(each is not None and each.numel for each in (cum_seq_q, cum_seq_k)):
        raise Unknown("the sequence lengths are values (cumulative lengths), not shapes")


def _scores(query: TensorSpec, key: TensorSpec, sequence: int) -> int:
    """FLOPs of Q K^T; ``sequence`` is the dimension that holds the positions (the heads may come before or after)."""
    return 2 * query.numel * key.shape[sequence]


def _values(query: TensorSpec, key: TensorSpec, value: TensorSpec, sequence: int) -> int:
    """FLOPs of P V: as many pairs, sums of d_v."""
    return 2 * prod(query.shape[:-1]) * key.shape[sequence] * value.shape[-1]


def _backward(query: TensorSpec, key: TensorSpec, value: TensorSpec, sequence: int) -> Cost:
    scores = _scores(query, key, sequence)
    both = scores + _values(query, key, value, sequence)
    return Cost(kind="counted", flops=2 * both, kernel_recompute=scores)


@formula("aten.scaled_dot_product_attention")
def whole_attention(query: TensorSpec, key: TensorSpec, value: TensorSpec, *_: Any, **__: Any) -> int:
    """As attention, for any leading dimensions that broadcast; seen undecomposed in inference mode only."""
    queries, keys = query.shape[-2], key.shape[-2]
    scores = prod(broadcast(query.shape[:-2], key.shape[:-2])) * queries * keys * query.shape[-1]
    lead = broadcast(broadcast(query.shape[:-2], key.shape[:-2]), value.shape[:-2])
    return 2 * (scores + prod(lead) * queries * keys * value.shape[-1])


@formula(
    "aten._scaled_dot_product_attention_math_for_mps",
    "aten._scaled_dot_product_flash_attention_for_cpu",
    "aten._scaled_dot_product_flash_attention",
    "aten._scaled_dot_product_efficient_attention",
    "aten._scaled_dot_product_cudnn_attention",
    "aten._scaled_dot_product_fused_attention_overrideable",
    "aten._triton_scaled_dot_attention",
)
def attention(query: TensorSpec, key: TensorSpec, value: TensorSpec, *_: Any, **__: Any) -> int:
    """[B, H, S_q, d] x [B, H_kv, S_k, d] x [B, H_kv, S_k, d_v]: 2*B*H*S_q*S_k*(d + d_v)."""
    return _scores(query, key, -2) + _values(query, key, value, -2)


@formula(
    "aten._scaled_dot_product_flash_attention_for_cpu_backward",
    "aten._scaled_dot_product_flash_attention_backward",
    "aten._scaled_dot_product_efficient_attention_backward",
    "aten._scaled_dot_product_cudnn_attention_backward",
    "aten._scaled_dot_product_fused_attention_overrideable_backward",
)
def attention_backward(
    grad_out: TensorSpec, query: TensorSpec, key: TensorSpec, value: TensorSpec, *_: Any, **__: Any
) -> Cost:
    """Twice the forward, and Q K^T once more inside the kernel as kernel_recompute."""
    return _backward(query, key, value, -2)


@formula("aten._flash_attention_forward")
def flash_forward(
    query: TensorSpec,
    key: TensorSpec,
    value: TensorSpec,
    cum_seq_q: TensorSpec | None = None,
    cum_seq_k: TensorSpec | None = None,
    *_: Any,
    **__: Any,
) -> int:
    """As attention with heads last: [B, S_q, H, d] x [B, S_k, H_kv, d]; unknown for packed sequences."""
    _refuse_packed(cum_seq_q, cum_seq_k)
    return _scores(query, key, -3) + _values(query, key, value, -3)


@formula("aten._flash_attention_backward")
def flash_backward(
    grad_out: TensorSpec,
    query: TensorSpec,
    key: TensorSpec,
    value: TensorSpec,
    out: TensorSpec,
    logsumexp: TensorSpec,
    cum_seq_q: TensorSpec | None = None,
    cum_seq_k: TensorSpec | None = None,
    *_: Any,
    **__: Any,
) -> Cost:
    """Twice flash_forward; unknown for packed sequences."""
    _refuse_packed(cum_seq_q, cum_seq_k)
    return _backward(query, key, value, -3)


@formula("aten._flash_attention_forward_no_dropout_inplace")
def flash_forward_into(
    into: TensorSpec,
    query: TensorSpec,
    key: TensorSpec,
    value: TensorSpec,
    cum_seq_q: TensorSpec | None = None,
    cum_seq_k: TensorSpec | None = None,
    *_: Any,
    **__: Any,
) -> int:
    """As flash_forward, with the tensor that takes the result first."""
    return flash_forward(query, key, value, cum_seq_q, cum_seq_k)


@formula("aten._cudnn_attention_forward")
def cudnn_forward(
    query: TensorSpec,
    key: TensorSpec,
    value: TensorSpec,
    bias: TensorSpec | None = None,
    cum_seq_q: TensorSpec | None = None,
    cum_seq_k: TensorSpec | None = None,
    *_: Any,
    **__: Any,
) -> int:
    """As attention, heads before positions; unknown for packed sequences."""
    _refuse_packed(cum_seq_q, cum_seq_k)
    return attention(query, key, value)


@formula("aten._cudnn_attention_backward")
def cudnn_backward(
    grad_out: TensorSpec,
    query: TensorSpec,
    key: TensorSpec,
    value: TensorSpec,
    out: TensorSpec,
    logsumexp: TensorSpec,
    philox_seed: TensorSpec,
    philox_offset: TensorSpec,
    bias: TensorSpec | None,
    cum_seq_q: TensorSpec | None = None,
    cum_seq_k: TensorSpec | None = None,
    *_: Any,
    **__: Any,
) -> Cost:
    """Twice cudnn_forward; unknown for packed sequences."""
    _refuse_packed(cum_seq_q, cum_seq_k)
    return _backward(query, key, value, -2)


@formula("aten._efficient_attention_forward")
def efficient_forward(
    query: TensorSpec,
    key: TensorSpec,
    value: TensorSpec,
    bias: TensorSpec | None = None,
    cum_seq_q: TensorSpec | None = None,
    cum_seq_k: TensorSpec | None = None,
    *_: Any,
    **__: Any,
) -> int:
    """As flash_forward, with the attention bias before the cumulative lengths."""
    return flash_forward(query, key, value, cum_seq_q, cum_seq_k)


@formula("aten._efficient_attention_backward")
def efficient_backward(
    grad_out: TensorSpec,
    query: TensorSpec,
    key: TensorSpec,
    value: TensorSpec,
    bias: TensorSpec | None,
    out: TensorSpec,
    cum_seq_q: TensorSpec | None = None,
    cum_seq_k: TensorSpec | None = None,
    *_: Any,
    **__: Any,
) -> Cost:
    """Twice efficient_forward; unknown for packed sequences."""
    _refuse_packed(cum_seq_q, cum_seq_k)
    return _backward(query, key, value, -3)


@formula("aten._native_multi_head_attention")
def native_multi_head_attention(
    query: TensorSpec, key: TensorSpec, value: TensorSpec, embed_dim: int, *_: Any, **__: Any
) -> int:
    """nn.MultiheadAttention's inference path, [B, S, E]: four projections and the core.

    Query and output 2*B*S_q*E*E each, key and value 2*B*S_k*E*E each, scores and values 4*B*S_q*S_k*E.
    """
    batch, queries, keys = query.shape[0], query.shape[1], key.shape[1]
    projections = 2 * batch * embed_dim * embed_dim * (2 * queries + 2 * keys)
    return projections + 4 * batch * queries * keys * embed_dim


@formula("aten._transformer_encoder_layer_fwd")
def transformer_encoder_layer(
    src: TensorSpec,
    embed_dim: int,
    num_heads: int,
    qkv_weight: TensorSpec,
    qkv_bias: TensorSpec,
    proj_weight: TensorSpec,
    proj_bias: TensorSpec,
    use_gelu: bool,
    norm_first: bool,
    eps: float,
    norm_weight_1: TensorSpec,
    norm_bias_1: TensorSpec,
    norm_weight_2: TensorSpec,
    norm_bias_2: TensorSpec,
    ffn_weight_1: TensorSpec,
    ffn_bias_1: TensorSpec,
    ffn_weight_2: TensorSpec,
    *_: Any,
    **__: Any,
) -> int:
    """nn.TransformerEncoderLayer's inference path: self-attention as above, and two products with [ff, E] weights."""
    feed_forward = 2 * src.shape[0] * src.shape[1] * (ffn_weight_1.numel + ffn_weight_2.numel)
    return native_multi_head_attention(src, src, src, embed_dim) + feed_forward
