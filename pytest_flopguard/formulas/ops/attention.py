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
from pytest_flopguard.formulas.ops.matmul import broadcast
from pytest_flopguard.formulas.query_key_pairs import window_pairs
from pytest_flopguard.formulas.registry import Unknown, formula

# custom_mask_type of the memory-efficient kernel.
_FROM_TOP_LEFT, _FROM_BOTTOM_RIGHT = 1, 2


def _refuse_packed(cum_seq_q: TensorSpec | None, cum_seq_k: TensorSpec | None, call: OpCall | None = None) -> None:
    """Packed sequences of different lengths: their FLOPs depend on values. A dense backward gets empty tensors."""
    if any(each is not None and each.numel for each in (cum_seq_q, cum_seq_k)):
        raise Unknown("the sequence lengths are values (cumulative lengths), not shapes")
    by_name = {} if call is None else call.by_name
    if any(by_name.get(name) is not None for name in ("seqused_k", "seqlen_k")):
        raise Unknown("how many of the keys are used is a value, not a shape")
    if by_name.get("block_table") is not None:
        raise Unknown("which of the keys are used is a value, not a shape")


def _hidden_share(call: OpCall | None, queries: int, keys: int, *, last_to_last: bool) -> tuple[int, int]:
    """Return how many of how many pairs the call's flags hide; ``last_to_last`` is how the kernel aligns is_causal."""
    said = {} if call is None else call.by_name
    causal, kind, width = said.get("is_causal") is True, said.get("custom_mask_type", 0), said.get("window_size")
    left, right = said.get("window_size_left"), said.get("window_size_right")
    # Kernels take a negative number for an open side.
    left = None if left is None or left < 0 else left
    right = None if right is None or right < 0 else right
    if kind in (_FROM_TOP_LEFT, _FROM_BOTTOM_RIGHT):
        causal, last_to_last = True, kind == _FROM_BOTTOM_RIGHT
    if width is not None and width > 0:
        if not causal:
            raise Unknown(f"a window of {width} keys without a causal mask")
        left = width - 1
    if not causal and left is None and right is None:
        return 0, queries * keys
    shift = keys - queries if last_to_last else 0
    kept = window_pairs(queries, keys, left=left, right=0 if causal else right, shift=shift)
    return queries * keys - kept, queries * keys


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
    hidden, pairs = _hidden_share(call, queries, keys, last_to_last=last_to_last)
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
    hidden, pairs = _hidden_share(call, queries, keys, last_to_last=False)
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


@formula("aten._flash_attention_forward")
def flash_forward(
    query: TensorSpec,
    key: TensorSpec,
    value: TensorSpec,
    cum_seq_q: TensorSpec | None = None,
    cum_seq_k: TensorSpec | None = None,
    *_: Any,
    call: OpCall | None = None,
    **__: Any,
) -> Cost:
    """As attention with heads last: [B, S_q, H, d] x [B, S_k, H_kv, d]; unknown for packed sequences."""
    _refuse_packed(cum_seq_q, cum_seq_k, call)
    return _forward(query, key, value, -3, call, last_to_last=True)


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
    call: OpCall | None = None,
    **__: Any,
) -> Cost:
    """Twice flash_forward; unknown for packed sequences."""
    _refuse_packed(cum_seq_q, cum_seq_k, call)
    return _backward(query, key, value, -3, call, last_to_last=True)


@formula("aten._flash_attention_forward_no_dropout_inplace")
def flash_forward_into(
    into: TensorSpec,
    query: TensorSpec,
    key: TensorSpec,
    value: TensorSpec,
    cum_seq_q: TensorSpec | None = None,
    cum_seq_k: TensorSpec | None = None,
    *_: Any,
    call: OpCall | None = None,
    **__: Any,
) -> Cost:
    """As flash_forward, with the tensor that takes the result first."""
    return flash_forward(query, key, value, cum_seq_q, cum_seq_k, call=call)


@formula("aten._cudnn_attention_forward")
def cudnn_forward(
    query: TensorSpec,
    key: TensorSpec,
    value: TensorSpec,
    bias: TensorSpec | None = None,
    cum_seq_q: TensorSpec | None = None,
    cum_seq_k: TensorSpec | None = None,
    *_: Any,
    call: OpCall | None = None,
    **__: Any,
) -> Cost:
    """As attention, heads before positions; unknown for packed sequences."""
    _refuse_packed(cum_seq_q, cum_seq_k, call)
    return attention(query, key, value, call=call)


@formula("aten._cudnn_attention_forward_no_dropout_inplace")
def cudnn_forward_into(
    into: TensorSpec,
    query: TensorSpec,
    key: TensorSpec,
    value: TensorSpec,
    cum_seq_q: TensorSpec | None = None,
    cum_seq_k: TensorSpec | None = None,
    *_: Any,
    call: OpCall | None = None,
    **__: Any,
) -> Cost:
    """As cudnn_forward, with the tensor that takes the result first and no bias."""
    return cudnn_forward(query, key, value, None, cum_seq_q, cum_seq_k, call=call)


@formula("torch_attn._varlen_attn", "torch_attn._varlen_attn_out", "torch_attn._varlen_attn_backward")
def variable_lengths(*_: Any, **__: Any) -> Cost:
    """torch.nn.attention.varlen: packed sequences, unknown."""
    raise Unknown("the sequence lengths are values (cumulative lengths), not shapes")


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
    call: OpCall | None = None,
    **__: Any,
) -> Cost:
    """Twice cudnn_forward; unknown for packed sequences."""
    _refuse_packed(cum_seq_q, cum_seq_k, call)
    return _backward(query, key, value, -2, call)


@formula("aten._efficient_attention_forward")
def efficient_forward(
    query: TensorSpec,
    key: TensorSpec,
    value: TensorSpec,
    bias: TensorSpec | None = None,
    cum_seq_q: TensorSpec | None = None,
    cum_seq_k: TensorSpec | None = None,
    *_: Any,
    call: OpCall | None = None,
    **__: Any,
) -> Cost:
    """As flash_forward, with the attention bias before the cumulative lengths."""
    return flash_forward(query, key, value, cum_seq_q, cum_seq_k, call=call)


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
    call: OpCall | None = None,
    **__: Any,
) -> Cost:
    """Twice efficient_forward; unknown for packed sequences."""
    _refuse_packed(cum_seq_q, cum_seq_k, call)
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
