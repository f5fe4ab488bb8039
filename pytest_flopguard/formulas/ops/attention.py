"""Scaled dot-product attention, fused in one op. Dense convention: every query meets every key.

Scores Q K^T: batch * heads * S_q * S_k dot products of length d. Values P V: as many of length S_k and width d_v.
Together 2 * B * H * S_q * S_k * (d + d_v) FLOPs; H is the number of *query* heads, since each of them meets its
key/value head, shared or not. Softmax, scale, mask and dropout are elementwise and left out.

Backward has four products (dV = P^T dO, dP = dO V^T, dQ = dS K, dK = dS^T Q), each of one forward product's size:
twice the forward. Flash-like kernels compute Q K^T once more instead of keeping it; that is ``kernel_recompute``,
told apart, since an eager backward does not do it and the same model must count the same everywhere.

What ``is_causal`` or a window hides is told as ``masked_flops``: the share of hidden pairs in the dense FLOPs, which is
whole, since each pair costs the same. A mask that is a tensor is not looked at here.
"""

from __future__ import annotations

from math import prod
from typing import Any

from pytest_flopguard.core.measurement import Cost, OpCall
from pytest_flopguard.core.tensors import TensorSpec
from pytest_flopguard.formulas.ops.mask_flags import hidden_share
from pytest_flopguard.formulas.ops.matmul import broadcast
from pytest_flopguard.formulas.ops.packed_attention import READS, is_packed, packed, with_used_keys
from pytest_flopguard.formulas.registry import Unknown, formula


def _whole(
    query: TensorSpec,
    key: TensorSpec,
    value: TensorSpec,
    sequence: int,
    call: OpCall | None,
    last_to_last: bool = False,
) -> tuple[int, int, int]:
    """Return the FLOPs of Q K^T, of P V, and those of both that the flags hide.

    ``sequence`` is the dimension that holds the positions (the heads may come before or after).
    """
    queries, keys = query.shape[sequence], key.shape[sequence]
    scores = 2 * query.numel * keys
    values = 2 * prod(query.shape[:-1]) * keys * value.shape[-1]
    hidden, pairs = hidden_share(call, queries, keys, last_to_last=last_to_last)
    return scores, values, (scores + values) // pairs * hidden if pairs else 0


def _forward(*arguments: Any, **options: Any) -> Cost:
    scores, values, masked = _whole(*arguments, **options)
    return Cost(kind="counted", flops=scores + values, masked_flops=masked)


def _backward(*arguments: Any, **options: Any) -> Cost:
    scores, values, masked = _whole(*arguments, **options)
    return Cost(kind="counted", flops=2 * (scores + values), kernel_recompute=scores, masked_flops=2 * masked)


@formula("aten.scaled_dot_product_attention")
def whole_attention(
    query: TensorSpec, key: TensorSpec, value: TensorSpec, *_: Any, call: OpCall | None = None, **__: Any
) -> Cost:
    """As attention, for any leading dimensions that broadcast; seen undecomposed in inference mode only."""
    queries, keys = query.shape[-2], key.shape[-2]
    lead = broadcast(query.shape[:-2], key.shape[:-2])
    scores = prod(lead) * queries * keys * query.shape[-1]
    both = 2 * (scores + prod(broadcast(lead, value.shape[:-2])) * queries * keys * value.shape[-1])
    hidden, pairs = hidden_share(call, queries, keys, last_to_last=False)
    return Cost(kind="counted", flops=both, masked_flops=both // pairs * hidden if pairs else 0)


@formula(
    "aten._scaled_dot_product_attention_math_for_mps",
    "aten._scaled_dot_product_flash_attention_for_cpu",
    "aten._scaled_dot_product_flash_attention",
    "aten._scaled_dot_product_efficient_attention",
    "aten._scaled_dot_product_cudnn_attention",
    "aten._scaled_dot_product_fused_attention_overrideable",
    "aten._triton_scaled_dot_attention",
)
def attention(
    query: TensorSpec, key: TensorSpec, value: TensorSpec, *_: Any, call: OpCall | None = None, **__: Any
) -> Cost:
    """[B, H, S_q, d] x [B, H_kv, S_k, d] x [B, H_kv, S_k, d_v]: 2*B*H*S_q*S_k*(d + d_v)."""
    return _forward(query, key, value, -2, call)


@formula(
    "aten._scaled_dot_product_flash_attention_for_cpu_backward",
    "aten._scaled_dot_product_flash_attention_backward",
    "aten._scaled_dot_product_efficient_attention_backward",
    "aten._scaled_dot_product_cudnn_attention_backward",
    "aten._scaled_dot_product_fused_attention_overrideable_backward",
)
def attention_backward(
    grad_out: TensorSpec,
    query: TensorSpec,
    key: TensorSpec,
    value: TensorSpec,
    *_: Any,
    call: OpCall | None = None,
    **__: Any,
) -> Cost:
    """Twice the forward, and Q K^T once more inside the kernel as kernel_recompute."""
    return _backward(query, key, value, -2, call)


@formula("aten._flash_attention_forward", reads=READS)
def flash_forward(
    query: TensorSpec,
    key: TensorSpec,
    value: TensorSpec,
    cum_seq_q: TensorSpec | None = None,
    cum_seq_k: TensorSpec | None = None,
    max_q: int | None = None,
    max_k: int | None = None,
    *_: Any,
    call: OpCall | None = None,
    seqused_k: TensorSpec | None = None,
    block_table: TensorSpec | None = None,
    **__: Any,
) -> Cost:
    """As attention with heads last: [B, S_q, H, d] x [B, S_k, H_kv, d], or packed sequences."""
    if is_packed(cum_seq_q, cum_seq_k):
        return packed(query, value, cum_seq_q, cum_seq_k, max_k, used_k=seqused_k, call=call)
    if block_table is not None and (seqused_k is None or seqused_k.values is None):
        raise Unknown("which of the keys are used is a value, not a shape")
    if seqused_k is not None:
        return with_used_keys(query, value, key, seqused_k, call)
    return _forward(query, key, value, -3, call, last_to_last=True)


@formula("aten._flash_attention_backward", reads=READS)
def flash_backward(
    grad_out: TensorSpec,
    query: TensorSpec,
    key: TensorSpec,
    value: TensorSpec,
    out: TensorSpec,
    logsumexp: TensorSpec,
    cum_seq_q: TensorSpec | None = None,
    cum_seq_k: TensorSpec | None = None,
    max_q: int | None = None,
    max_k: int | None = None,
    *_: Any,
    call: OpCall | None = None,
    **__: Any,
) -> Cost:
    """Twice flash_forward."""
    if is_packed(cum_seq_q, cum_seq_k):
        return packed(query, value, cum_seq_q, cum_seq_k, max_k, call=call, backward=True)
    return _backward(query, key, value, -3, call, last_to_last=True)


@formula("aten._flash_attention_forward_no_dropout_inplace", reads=READS)
def flash_forward_into(into: TensorSpec, *arguments: Any, call: OpCall | None = None, **options: Any) -> Cost:
    """As flash_forward, with the tensor that takes the result first."""
    return flash_forward(*arguments, call=call, **options)


@formula("aten._cudnn_attention_forward", reads=READS)
def cudnn_forward(
    query: TensorSpec,
    key: TensorSpec,
    value: TensorSpec,
    bias: TensorSpec | None = None,
    cum_seq_q: TensorSpec | None = None,
    cum_seq_k: TensorSpec | None = None,
    max_q: int | None = None,
    max_k: int | None = None,
    *_: Any,
    call: OpCall | None = None,
    **__: Any,
) -> Cost:
    """As attention, heads before positions; packed sequences have them after."""
    if is_packed(cum_seq_q, cum_seq_k):
        return packed(query, value, cum_seq_q, cum_seq_k, max_k, call=call)
    return attention(query, key, value, call=call)


@formula("aten._cudnn_attention_forward_no_dropout_inplace", reads=READS)
def cudnn_forward_into(
    into: TensorSpec,
    query: TensorSpec,
    key: TensorSpec,
    value: TensorSpec,
    *arguments: Any,
    call: OpCall | None = None,
    **options: Any,
) -> Cost:
    """As cudnn_forward, with the tensor that takes the result first and no bias."""
    return cudnn_forward(query, key, value, None, *arguments, call=call, **options)


@formula("aten._cudnn_attention_backward", reads=READS)
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
    max_q: int | None = None,
    max_k: int | None = None,
    *_: Any,
    call: OpCall | None = None,
    **__: Any,
) -> Cost:
    """Twice cudnn_forward."""
    if is_packed(cum_seq_q, cum_seq_k):
        return packed(query, value, cum_seq_q, cum_seq_k, max_k, call=call, backward=True)
    return _backward(query, key, value, -2, call)


_EFFICIENT_READS = ("cu_seqlens_q", "cu_seqlens_k", "seqlen_k")


@formula("aten._efficient_attention_forward", reads=_EFFICIENT_READS)
def efficient_forward(
    query: TensorSpec,
    key: TensorSpec,
    value: TensorSpec,
    bias: TensorSpec | None = None,
    cu_seqlens_q: TensorSpec | None = None,
    cu_seqlens_k: TensorSpec | None = None,
    max_seqlen_q: int | None = None,
    max_seqlen_k: int | None = None,
    *_: Any,
    call: OpCall | None = None,
    seqlen_k: TensorSpec | None = None,
    **__: Any,
) -> Cost:
    """As flash_forward, with the attention bias before the cumulative lengths."""
    return flash_forward(
        query, key, value, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k, call=call, seqused_k=seqlen_k
    )


@formula("aten._efficient_attention_backward", reads=_EFFICIENT_READS)
def efficient_backward(
    grad_out: TensorSpec,
    query: TensorSpec,
    key: TensorSpec,
    value: TensorSpec,
    bias: TensorSpec | None,
    out: TensorSpec,
    cu_seqlens_q: TensorSpec | None = None,
    cu_seqlens_k: TensorSpec | None = None,
    max_seqlen_q: int | None = None,
    max_seqlen_k: int | None = None,
    *_: Any,
    call: OpCall | None = None,
    **__: Any,
) -> Cost:
    """Twice efficient_forward."""
    if is_packed(cu_seqlens_q, cu_seqlens_k):
        return packed(query, value, cu_seqlens_q, cu_seqlens_k, max_seqlen_k, call=call, backward=True)
    return _backward(query, key, value, -3, call, last_to_last=True)


@formula("flash_attn._flash_attn_forward", "flashattn._flash_attn_forward")
def library_forward(
    query: TensorSpec, key: TensorSpec, value: TensorSpec, *_: Any, call: OpCall | None = None, **__: Any
) -> Cost:
    """The flash-attn library: as flash_forward."""
    return _forward(query, key, value, -3, call, last_to_last=True)


@formula("flash_attn._flash_attn_backward", "flashattn._flash_attn_backward")
def library_backward(
    grad_out: TensorSpec,
    query: TensorSpec,
    key: TensorSpec,
    value: TensorSpec,
    *_: Any,
    call: OpCall | None = None,
    **__: Any,
) -> Cost:
    """Twice library_forward."""
    return _backward(query, key, value, -3, call, last_to_last=True)


@formula("aten._native_multi_head_attention", "aten._triton_multi_head_attention")
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
