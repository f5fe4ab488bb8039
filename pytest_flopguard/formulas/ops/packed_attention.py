"""Attention on packed sequences: all tokens of a batch in one dimension, cut by cumulative lengths.

Sequence i has q_i queries and k_i keys, and its queries meet its own keys alone: 2*H*(d + d_v) * sum(q_i * k_i). The
lengths are values. Where they do not exist, as on meta tensors, each query is taken to meet as many keys as the longest
sequence has: an upper bound. ``seqused_k`` is how many keys of each sequence are used.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from pytest_flopguard.core.measurement import Cost, OpCall
from pytest_flopguard.core.tensors import TensorSpec
from pytest_flopguard.formulas.ops.mask_flags import hidden_share
from pytest_flopguard.formulas.registry import Unknown, formula

READS = ("cum_seq_q", "cum_seq_k", "seqused_k")
_LIBRARY_READS = ("cu_seqlens_q", "cu_seqlens_k", "seqused_k")
_VARLEN_READS = ("cu_seq_q", "cu_seq_k", "seqused_k")
_NO_VALUES = (
    "the lengths of packed sequences are values, which do not exist here; each query is taken to meet the most keys"
)


def is_packed(*cumulative: TensorSpec | None) -> bool:
    """Whether a call is given cumulative lengths; a dense backward gets empty tensors."""
    return any(each is not None and each.numel for each in cumulative)


def _lengths(cumulative: TensorSpec | None, used: TensorSpec | None = None) -> Sequence[int] | None:
    if used is not None:
        return used.values
    if cumulative is None or cumulative.values is None:
        return None
    return [max(0, end - start) for start, end in pairwise(cumulative.values)]


def packed(
    query: TensorSpec,
    value: TensorSpec,
    cumulative_q: TensorSpec | None,
    cumulative_k: TensorSpec | None,
    longest_k: int | None,
    *,
    used_k: TensorSpec | None = None,
    call: OpCall | None = None,
    backward: bool = False,
) -> Cost:
    """Cost queries [tokens, H, d] on sequences of their own keys; backward twice as much, and the scores once more."""
    heads, width = query.shape[-2:]
    of_scores, of_both = 2 * heads * width, 2 * heads * (width + value.shape[-1])
    queries, keys = _lengths(cumulative_q), _lengths(cumulative_k, used_k)
    at_most, hidden = "", 0
    if queries is None or keys is None:
        if longest_k is None:
            raise Unknown("the lengths of packed sequences are values, which do not exist here")
        pairs, at_most = query.shape[-3] * longest_k, _NO_VALUES
    else:
        pairs = sum(q * k for q, k in zip(queries, keys, strict=True))
        hidden = sum(hidden_share(call, q, k, last_to_last=True)[0] for q, k in zip(queries, keys, strict=True))
    factor = 2 if backward else 1
    return Cost(
        kind="counted",
        flops=factor * pairs * of_both,
        kernel_recompute=pairs * of_scores if backward else 0,
        masked_flops=factor * hidden * of_both,
        at_most=at_most,
    )


def with_used_keys(
    query: TensorSpec, value: TensorSpec, key: TensorSpec, used_k: TensorSpec, call: OpCall | None
) -> Cost:
    """Cost queries [B, S_q, H, d] where each batch item uses so many of its keys."""
    batch, queries, keys = query.shape[0], query.shape[1], key.shape[1]
    of_both = 2 * query.shape[-2] * (query.shape[-1] + value.shape[-1])
    lengths = used_k.values
    if lengths is None:
        reason = "how many keys are used is a value, which does not exist here; all of them are counted"
        return Cost(kind="counted", flops=batch * queries * keys * of_both, at_most=reason)
    hidden = sum(hidden_share(call, queries, each, last_to_last=True)[0] for each in lengths)
    return Cost(kind="counted", flops=queries * sum(lengths) * of_both, masked_flops=hidden * of_both)


@formula("torch_attn._varlen_attn", reads=_VARLEN_READS)
def varlen(
    query: TensorSpec,
    key: TensorSpec,
    value: TensorSpec,
    cu_seq_q: TensorSpec,
    cu_seq_k: TensorSpec | None,
    max_q: int,
    max_k: int,
    *_: Any,
    call: OpCall | None = None,
    **__: Any,
) -> Cost:
    """nn.attention.varlen: [tokens, H, d], each sequence by itself: 2*H*(d + d_v) * sum(q_i * k_i)."""
    used: TensorSpec | None = None if call is None else call.by_name.get("seqused_k")
    return packed(query, value, cu_seq_q, cu_seq_k, max_k, used_k=used, call=call)


@formula("torch_attn._varlen_attn_out", reads=_VARLEN_READS)
def varlen_into(into: TensorSpec, *arguments: Any, call: OpCall | None = None, **options: Any) -> Cost:
    """As varlen, with the tensor that takes the result first."""
    return varlen(*arguments, call=call, **options)


@formula("torch_attn._varlen_attn_backward", reads=_VARLEN_READS)
def varlen_backward(
    grad_out: TensorSpec,
    query: TensorSpec,
    key: TensorSpec,
    value: TensorSpec,
    out: TensorSpec,
    logsumexp: TensorSpec,
    cu_seq_q: TensorSpec,
    cu_seq_k: TensorSpec,
    max_q: int,
    max_k: int,
    *_: Any,
    call: OpCall | None = None,
    **__: Any,
) -> Cost:
    """Twice varlen."""
    return packed(query, value, cu_seq_q, cu_seq_k, max_k, call=call, backward=True)


@formula("flash_attn._flash_attn_varlen_forward", "flashattn._flash_attn_varlen_forward", reads=_LIBRARY_READS)
def library_varlen(
    query: TensorSpec,
    key: TensorSpec,
    value: TensorSpec,
    cu_seqlens_q: TensorSpec,
    cu_seqlens_k: TensorSpec,
    max_seqlen_q: int,
    max_seqlen_k: int,
    *_: Any,
    call: OpCall | None = None,
    **__: Any,
) -> Cost:
    """The flash-attn library on packed sequences: as varlen."""
    used: TensorSpec | None = None if call is None else call.by_name.get("seqused_k")
    return packed(query, value, cu_seqlens_q, cu_seqlens_k, max_seqlen_k, used_k=used, call=call)


@formula("flash_attn._flash_attn_varlen_backward", "flashattn._flash_attn_varlen_backward", reads=_LIBRARY_READS)
def library_varlen_backward(
    grad_out: TensorSpec,
    query: TensorSpec,
    key: TensorSpec,
    value: TensorSpec,
    out: TensorSpec,
    logsumexp: TensorSpec,
    grad_query: TensorSpec | None,
    grad_key: TensorSpec | None,
    grad_value: TensorSpec | None,
    cu_seqlens_q: TensorSpec,
    cu_seqlens_k: TensorSpec,
    max_seqlen_q: int,
    max_seqlen_k: int,
    *_: Any,
    call: OpCall | None = None,
    **__: Any,
) -> Cost:
    """Twice library_varlen."""
    return packed(query, value, cu_seqlens_q, cu_seqlens_k, max_seqlen_k, call=call, backward=True)
