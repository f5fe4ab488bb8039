"""Whether a GPU normalises batches with cuDNN or with torch's own kernel.

Source: aten/src/ATen/native/Normalization.cpp (_select_batch_norm_backend, _batch_norm_impl_index).
"""

from __future__ import annotations

import torch

from pytest_flopguard.backends.torch_api.tensors import suggest_memory_format

_aten = torch.ops.aten
# CUDNN_BN_MIN_EPSILON is 0 from cuDNN 7.5 on; what follows are limits of its kernels.
_MOST_TRAINED, _MOST_EVALUATED = 880_801, 65_535
_INT32_MAX = 2**31 - 1
_NATIVE, _CUDNN = 0, 1

Normalised = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, int]


def uses_cudnn(
    x: torch.Tensor,
    weight: torch.Tensor | None,
    bias: torch.Tensor | None,
    mean: torch.Tensor | None,
    variance: torch.Tensor | None,
    training: bool,
) -> bool:
    """Say whether cuDNN takes a call: affine, of three dimensions or more, float32 or float64, or float16 with
    float32 weights; running statistics both or, in training, neither.
    """
    if weight is None or bias is None or torch.bfloat16 in (x.dtype, weight.dtype):
        return False
    if x.dtype == torch.float16 and weight.dtype != torch.float32:
        return False
    if (mean is None) != (variance is None) or (mean is None and not training):
        return False
    most = _MOST_TRAINED if training else _MOST_EVALUATED
    return x.dim() >= 3 and x.shape[0] <= most and x.numel() < _INT32_MAX and torch.backends.cudnn.enabled


def batch_norm_impl_index(
    x: torch.Tensor,
    weight: torch.Tensor | None,
    bias: torch.Tensor | None,
    running_mean: torch.Tensor | None,
    running_var: torch.Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool,
) -> Normalised:
    """Take cuDNN's op or torch's own, and tell which for the backward."""
    if uses_cudnn(x, weight, bias, running_mean, running_var, training):
        layout = suggest_memory_format(x)
        out = _aten.cudnn_batch_norm(
            x.contiguous(memory_format=layout), weight, bias, running_mean, running_var, training, momentum, eps
        )
        return (*out, _CUDNN)
    reserve = torch.empty(0, dtype=torch.uint8, device=x.device)
    out = _aten.native_batch_norm(x, weight, bias, running_mean, running_var, training, momentum, eps)
    return (*out, reserve, _NATIVE)
