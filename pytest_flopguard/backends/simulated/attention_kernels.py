"""scaled_dot_product_attention as a CUDA build lowers it to the kernel that was chosen.

Source: aten/src/ATen/native/transformers/attention.cpp (scaled_dot_product_attention,
_scaled_dot_product_attention_math and what they prepare). The fused kernels' ops are torch's own; only what stands
around them is written anew here, since a build without CUDA takes another way.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend

from pytest_flopguard.backends.simulated.attention_choice import AttentionCall, batched
from pytest_flopguard.backends.torch_api.cuda import math_attention_keeps_half
from pytest_flopguard.backends.torch_api.tensors import safe_softmax

_aten = torch.ops.aten
_HALF = (torch.float16, torch.bfloat16)
# What cuDNN takes for minus infinity, and the multiple that mask rows of the efficient kernel are padded to.
_CUDNN_HIDDEN = -65504.0
_MASK_STEP = 8
_FLASH_STEP = 8


def run(call: AttentionCall, backend: SDPBackend, scale: float | None) -> torch.Tensor:
    """Run a call with a kernel; the result has the shape of the query, with the value's width."""
    fused = _FUSED.get(backend)
    if fused is None:
        return _math(call, scale)
    whole = batched(call)
    out = fused(whole, scale)
    return out if whole is call else out.squeeze(0)


def _cudnn(call: AttentionCall, scale: float | None) -> torch.Tensor:
    mask = _additive(call.mask, call.query.dtype, _CUDNN_HIDDEN, on_cpu=True)
    out: torch.Tensor = _aten._scaled_dot_product_cudnn_attention(
        *call.tensors, mask, call.needs_grad, call.dropout, call.is_causal, False, scale=scale
    )[0]
    return out


def _flash(call: AttentionCall, scale: float | None) -> torch.Tensor:
    width = call.query.shape[-1]
    missing = -width % _FLASH_STEP
    query, key, value = (F.pad(each, (0, missing)) if missing else each for each in call.tensors)
    scale = width**-0.5 if scale is None else scale
    out: torch.Tensor = _aten._scaled_dot_product_flash_attention(
        query, key, value, call.dropout, call.is_causal, False, scale=scale
    )[0]
    return out[..., :width] if missing else out


def _efficient(call: AttentionCall, scale: float | None) -> torch.Tensor:
    mask = _additive(call.mask, call.query.dtype, -math.inf)
    if mask is not None:
        aligned = mask.stride(-1) == 1 and all(stride % _MASK_STEP == 0 for stride in mask.stride()[:-1])
        if not aligned:
            keys = mask.shape[-1]
            mask = F.pad(mask, (0, _MASK_STEP - keys % _MASK_STEP))[..., :keys]
        mask = mask.expand(*call.query.shape[:3], call.key.shape[2])
    out: torch.Tensor = _aten._scaled_dot_product_efficient_attention(
        *call.tensors, mask, call.needs_grad, call.dropout, call.is_causal, scale=scale
    )[0]
    return out


_FUSED = {
    SDPBackend.CUDNN_ATTENTION: _cudnn,
    SDPBackend.FLASH_ATTENTION: _flash,
    SDPBackend.EFFICIENT_ATTENTION: _efficient,
}


def _math(call: AttentionCall, scale: float | None) -> torch.Tensor:
    """Score matrix, softmax and product one by one; 16-bit inputs in float32 unless reductions in 16 bits are set."""
    dtype = call.query.dtype
    widens = dtype in _HALF and not math_attention_keeps_half()
    query, key, value = (each.to(torch.float32) if widens else each for each in call.tensors)
    factor = query.shape[-1] ** -0.5 if scale is None else scale
    root = math.sqrt(abs(factor))
    query = query * math.copysign(root, factor)
    mask = call.mask
    if call.is_causal:
        mask = torch.ones(query.shape[-2], key.shape[-2], dtype=torch.bool, device=query.device).tril()
    mask = _additive(mask, query.dtype, -math.inf)
    if call.enable_gqa:
        key, value = (_repeated(each, query.shape[-3]) for each in (key, value))
    scores = torch.matmul(query, key.transpose(-2, -1) * root)
    if mask is not None:
        scores.add_(mask)
    weights = safe_softmax(scores, -1)
    if call.dropout > 0.0:
        weights = torch.dropout(weights, call.dropout, True)
    return torch.matmul(weights, value).to(dtype)


def _repeated(tensor: torch.Tensor, heads: int) -> torch.Tensor:
    return tensor if tensor.shape[-3] == heads else tensor.repeat_interleave(heads // tensor.shape[-3], -3)


def _additive(
    mask: torch.Tensor | None, dtype: torch.dtype, hidden: float, *, on_cpu: bool = False
) -> torch.Tensor | None:
    """Return a mask that is added to the scores: True becomes 0, False what hides (``convert_boolean_attn_mask``)."""
    if mask is None or mask.dtype != torch.bool:
        return mask
    zero = torch.scalar_tensor(0.0, dtype=dtype, device="cpu" if on_cpu else mask.device)
    return torch.where(mask.logical_not(), hidden, zero)
