"""Hidden memory of fused attention kernels, for [B, H, T, D] tensors.

Sources: aten/src/ATen/native/transformers/cuda/flash_attn/flash_api.cpp (mha_fwd, set_params_splitkv, mha_bwd),
attention_backward.cu (_efficient_attention_backward) and mem_eff_attention/kernel_backward.h (Params::workspace_size).
cuDNN asks for a workspace when it has built a plan; no source tells its size.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil
from types import MappingProxyType

import torch

from pytest_flopguard.backends.simulated.hidden_memory import (
    Call,
    Entry,
    Hidden,
    UnknownWorkspace,
    copies,
    few_arrays,
    joined,
)

_FLOAT = 4


def _rounded(number: int, to: int) -> int:
    return -(-number // to) * to


def _head_rounded(head: int) -> int:
    return _rounded(head, 32) if head <= 128 else _rounded(head, 64)


def _splits(blocks: int, processors: int, key_blocks: int) -> int:
    """Return into how many parts keys are split so that a few queries fill the GPU (``num_splits_heuristic``)."""
    if blocks >= 0.8 * processors:
        return 1

    def worth(splits: int) -> bool:
        return splits == 1 or ceil(key_blocks / splits) != ceil(key_blocks / (splits - 1))

    def efficiency(splits: int) -> float:
        waves = blocks * splits / processors
        return waves / ceil(waves)

    candidates = [each for each in range(1, min(128, processors, key_blocks) + 1) if worth(each)]
    best = max(map(efficiency, candidates), default=0.0)
    return next((each for each in candidates if efficiency(each) >= 0.85 * best), 1)


def _flash_forward(call: Call) -> Hidden:
    """Partial outputs of split keys (flash decoding); none where queries fill the GPU, nor with dropout."""
    query, key = call.args[0], call.args[1]
    if call.argument(3, "dropout_p", 0.0):
        return ()
    batch, heads, queries, head = query.shape
    key_heads, keys = key.shape[1], key.shape[2]
    if queries == 1 and heads > key_heads and not call.argument(4, "is_causal", False):
        # One query a sequence: the query heads of a group take the place of queries.
        queries, heads = heads // key_heads, key_heads
    block = 256 if head <= 64 else 128 if head <= 128 else 64
    query_blocks = batch * heads * ceil(queries / 64)
    splits = _splits(query_blocks, 2 * call.gpu.multiprocessors, ceil(keys / block))
    if splits == 1:
        return ()
    sums = _FLOAT * splits * batch * heads * queries
    return sums, sums * _head_rounded(head)


def _flash_backward(call: Call) -> Hidden:
    """softmax_d and dq_accum in float32; for grouped queries dk and dv of every query head."""
    grad_out, query, key = call.args[0], call.args[1], call.args[2]
    out = call.args[4]
    batch, heads, queries, head = query.shape
    key_heads, keys = key.shape[1], key.shape[2]
    rows = _rounded(queries, 128)
    parts = 1
    if torch.are_deterministic_algorithms_enabled():
        parts = ceil(call.gpu.multiprocessors / (batch * heads))
    sizes = [
        *copies(grad_out.transpose(1, 2), out.transpose(1, 2)),
        _FLOAT * batch * heads * rows,
        _FLOAT * parts * batch * rows * heads * _head_rounded(head),
    ]
    if key_heads != heads:
        sizes += [query.element_size() * batch * keys * heads * head] * 2
    return tuple(sizes)


def _efficient_forward(call: Call) -> Hidden:
    """A float32 output where 16-bit heads are wider than the registers hold (kNeedsOutputAccumulatorBuffer)."""
    query, value = call.args[0], call.args[2]
    if query.element_size() == 2 and value.shape[-1] > 128:
        return (_FLOAT * query.shape[0] * query.shape[1] * query.shape[2] * value.shape[-1],)
    return ()


def _efficient_backward(call: Call) -> Hidden:
    """float32: grad_out * out and its sum. 16 bits: the same sum, and accumulators of grad_q, grad_k and grad_v."""
    query, key, value = call.args[1:4]
    if key.shape[1] == query.shape[1]:
        return _ungrouped_backward(call)
    # From torch 2.14 on, the kernel writes the gradients of every query head, and another sums them up.
    item, each_head = query.element_size(), query.shape[0] * query.shape[1] * key.shape[2]
    heads = UnknownWorkspace(
        reason="what sums the gradients of grouped heads in efficient attention's backward",
        known=tuple(item * each_head * each.shape[-1] for each in (key, value)),
        most=few_arrays(query, key, value),
    )
    return joined(_ungrouped_backward(call), heads)


def _ungrouped_backward(call: Call) -> tuple[int, ...] | UnknownWorkspace:
    grad_out, query, value = call.args[0], call.args[1], call.args[3]
    batch, heads, queries, head = query.shape
    copied = copies(grad_out.transpose(1, 2))
    delta = _FLOAT * batch * heads * queries
    if query.dtype == torch.float32:
        return (*copied, delta * value.shape[-1], delta)
    if max(head, value.shape[-1]) > 64:
        return UnknownWorkspace(
            reason=f"accumulators of efficient attention's backward in {query.dtype} with heads of {head}, over 64",
            known=(*copied, delta),
            most=few_arrays(grad_out, query, *call.args[2:4]),
        )
    # One tile of 64 x (32 or 64) float32 for every 64 queries, and four words to lock it.
    tile = 64 * (32 if max(head, value.shape[-1]) <= 32 else 64) + 4
    return (*copied, delta, _FLOAT * batch * heads * ceil(queries / 64) * tile)


def _cudnn_forward(call: Call) -> Hidden:
    reason = f"cuDNN's workspace for attention over {_shape(call.args[0])}"
    return UnknownWorkspace(reason=reason, most=few_arrays(*call.args[:3]))


def _cudnn_backward(call: Call) -> Hidden:
    reason = f"cuDNN's workspace for the backward of attention over {_shape(call.args[1])}"
    return UnknownWorkspace(reason=reason, most=few_arrays(*call.args[:4]))


def _shape(tensor: torch.Tensor) -> str:
    return f"{'x'.join(map(str, tensor.shape))} {str(tensor.dtype).removeprefix('torch.')}"


def _fast_path(call: Call) -> Hidden:
    return UnknownWorkspace(reason=f"what the fused attention layer holds over {_shape(call.args[0])}")


def _encoder_layer(call: Call) -> Hidden:
    return UnknownWorkspace(reason=f"what the fused encoder layer holds over {_shape(call.args[0])}")


ENTRIES: Mapping[str, Entry] = MappingProxyType(
    {
        "aten::_scaled_dot_product_flash_attention": _flash_forward,
        "aten::_scaled_dot_product_flash_attention_backward": _flash_backward,
        "aten::_scaled_dot_product_efficient_attention": _efficient_forward,
        "aten::_scaled_dot_product_efficient_attention_backward": _efficient_backward,
        "aten::_scaled_dot_product_cudnn_attention": _cudnn_forward,
        "aten::_scaled_dot_product_cudnn_attention_backward": _cudnn_backward,
        "aten::_native_multi_head_attention": _fast_path,
        "aten::_transformer_encoder_layer_fwd": _encoder_layer,
    }
)
