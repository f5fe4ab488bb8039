"""Which kernel a GPU runs scaled dot-product attention with: cuDNN, flash, efficient or math.

Source: aten/src/ATen/native/transformers/cuda/sdp_utils.cpp (select_sdp_backend and its filters) and
aten/src/ATen/native/transformers/sdp_utils_cpp.h; filters that differ between torch 2.11 and 2.15 were read in the
code of each release's wheel. Flags and order are torch's own, so ``torch.nn.attention.sdpa_kernel`` and
``torch.backends.cuda.enable_flash_sdp`` bite.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch.nn.attention import SDPBackend

from pytest_flopguard.backends.simulated.gpus import Gpu
from pytest_flopguard.backends.simulated.releases import Release, installed
from pytest_flopguard.backends.torch_api.cuda import (
    attention_order,
    cudnn_attention_enabled,
    efficient_attention_enabled,
    flash_attention_enabled,
    math_attention_enabled,
)

_HALF = (torch.float16, torch.bfloat16)
# aten/src/ATen/Context.h: the order until somebody sets another.
_DEFAULT_ORDER = [1, 2, 0, 3, 4]
_CUDNN_FIRST = [3, 1, 2, 0]
_MOST_BLOCKS = 65_535  # of a grid's second and third dimension


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionCall:
    """One call of scaled_dot_product_attention by a release of torch, for the filters (``sdp_params``)."""

    query: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor
    mask: torch.Tensor | None
    dropout: float
    is_causal: bool
    enable_gqa: bool
    release: Release = field(default_factory=installed)

    @property
    def tensors(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Query, key and value."""
        return self.query, self.key, self.value

    @property
    def needs_grad(self) -> bool:
        """Whether a backward may follow."""
        return torch.is_grad_enabled() and any(each.requires_grad for each in self.tensors)


def batched(call: AttentionCall) -> AttentionCall:
    """Return the call as fused kernels get it: unbatched tensors are a batch of one from torch 2.14 on."""
    if call.release < (2, 14) or any(each.dim() != 3 or each.is_nested for each in call.tensors):
        return call
    query, key, value = (each.unsqueeze(0) for each in call.tensors)
    mask = call.mask
    while mask is not None and mask.dim() < 4:
        mask = mask.unsqueeze(0)
    return replace(call, query=query, key=key, value=value, mask=mask)


class NoKernel(RuntimeError):
    """No kernel that is enabled can run the call; torch raises in the same place."""


def chosen(call: AttentionCall, gpu: Gpu) -> SDPBackend:
    """Return the backend that the GPU runs. Raises NoKernel where all that could are switched off."""
    call = batched(call)
    for number in _order(call, gpu):
        backend, allowed = _BACKENDS.get(number, (None, None))
        if backend is not None and allowed is not None and allowed(call, gpu):
            return backend
    raise NoKernel("No available kernel. Aborting execution.")


def can_use(backend: SDPBackend, call: AttentionCall, gpu: Gpu) -> bool:
    """Say whether a kernel can run a call, whichever is chosen (``torch.backends.cuda.can_use_flash_attention``)."""
    return any(allowed(call, gpu) for each, allowed in _BACKENDS.values() if each == backend)


def _order(call: AttentionCall, gpu: Gpu) -> Sequence[int]:
    order: list[int] = attention_order()
    able = gpu.cudnn_of(call.release) > 91_500 and gpu.capability[0] in (9, 10)
    prefers_cudnn = able and os.environ.get("TORCH_CUDNN_SDPA_DEPRIORITIZED") != "1"
    return _CUDNN_FIRST if order == _DEFAULT_ORDER and prefers_cudnn else order


def _cudnn(call: AttentionCall, gpu: Gpu) -> bool:
    deterministic = torch.are_deterministic_algorithms_enabled()
    return (
        cudnn_attention_enabled()
        and _four_dimensional(call)
        and not (deterministic and not torch.is_deterministic_algorithms_warn_only_enabled())
        and _same_dtype(call, _HALF)
        and _mask_fits(call)
        and gpu.capability >= (8, 0)
        and (call.release < (2, 12) or float(call.dropout * 16).is_integer())
        and not (call.dropout and 91_100 < gpu.cudnn_of(call.release) < 91_400)
        and _has_positions(call)
        and _last_stride_is_one(call, but_single=True)
        and _heads_fit(call, grouped=True, one_key_value=False)
        and (call.release < (2, 13) or max(call.query.shape[:2]) <= _MOST_BLOCKS)
        and _cudnn_widths(call, gpu)
        and call.key.shape[2] != 1
        and not (call.query.shape[2] == 1 and (call.dropout or not _cudnn_decodes(call, gpu)))
    )


def _cudnn_widths(call: AttentionCall, gpu: Gpu) -> bool:
    """check_cudnn_tensor_shapes, check_cudnn_d256_bprop_head_dim: multiples of 8 to a limit, fewer for a backward.

    The limit also depends on cuDNN; every wheel of these releases brings a new enough one.
    """
    widths = call.query.shape[3], call.value.shape[3]
    hopper, blackwell = gpu.capability == (9, 0), gpu.capability[0] == 10
    limit, trains = 256 if hopper else 128, True
    if blackwell and widths == (192, 128):
        limit = 192
    if call.release >= (2, 14) and (hopper or blackwell):
        limit, trains = 256, max(widths) <= 128 or widths in ((192, 128), (256, 256))
    return max(widths) <= limit and not any(width % 8 for width in widths) and (trains or not call.needs_grad)


def _cudnn_decodes(call: AttentionCall, gpu: Gpu) -> bool:
    """is_cudnn_attention_decode_disabled: not a single query on sm10x, for the releases of cuDNN that err there."""
    cudnn = gpu.cudnn_of(call.release)
    errs = 91_900 <= cudnn <= 92_500 and not 92_401 <= cudnn <= 92_499
    return not (call.release >= (2, 14) and gpu.capability[0] in (10, 11) and errs)


def _flash(call: AttentionCall, gpu: Gpu) -> bool:
    width = call.query.shape[-1]
    return (
        flash_attention_enabled()
        and _four_dimensional(call)
        and call.mask is None
        and width == call.key.shape[-1] == call.value.shape[-1] <= 256
        and gpu.capability >= (8, 0)
        and _flash_trains(call, gpu)
        and not (call.is_causal and call.query.shape[-2] != call.key.shape[-2])
        and _same_dtype(call, _HALF)
        and _heads_fit(call, grouped=True)
        and _has_positions(call)
        and _last_stride_is_one(call, but_single=True)
        and (call.release < (2, 15) or max(call.query.shape[:2]) <= _MOST_BLOCKS)
    )


def _flash_trains(call: AttentionCall, gpu: Gpu) -> bool:
    """Backward of heads over 192 needs more shared memory than sm86 to sm89 and sm120 have."""
    small = (8, 6) <= gpu.capability <= (8, 9) or (12, 0) <= gpu.capability <= (12, 1)
    width = call.query.shape[-1]
    return not (small and call.needs_grad) or width <= 192 or (not call.dropout and width > 224)


def _efficient(call: AttentionCall, gpu: Gpu) -> bool:
    step = _alignment(call, gpu)
    widths = call.query.shape[-1], call.value.shape[-1]
    dtypes = (*_HALF, torch.float32) if gpu.capability >= (8, 0) else (torch.float16, torch.float32)
    return (
        efficient_attention_enabled()
        and _four_dimensional(call)
        and call.key.shape[-1] == widths[0]
        and all(width > 0 and width % step == 0 for width in widths)
        and _has_positions(call)
        and _last_stride_is_one(call, but_single=False)
        and _heads_fit(call, grouped=call.release >= (2, 14))
        and (call.release < (2, 13) or gpu.capability < (8, 0) or _starts_aligned(call, step))
        and _same_dtype(call, dtypes)
    )


def _starts_aligned(call: AttentionCall, step: int) -> bool:
    """check_data_ptr_alignment_mem_efficient: storages begin aligned, so that the offset in them decides."""
    return all(each.storage_offset() % step == 0 or not each.numel() for each in call.tensors)


def _alignment(call: AttentionCall, gpu: Gpu) -> int:
    """Return of what the heads' width must be a multiple (``minimum_gemm_alignment``)."""
    half = call.query.dtype in _HALF
    least = 4 if gpu.capability >= (8, 0) else 1
    tensor_cores = gpu.capability >= (8, 0) or (gpu.capability >= (7, 0) and half)
    return max(least, 128 // (16 if half else 32)) if tensor_cores else least


def _math(call: AttentionCall, gpu: Gpu) -> bool:
    return bool(math_attention_enabled())


def _four_dimensional(call: AttentionCall) -> bool:
    return all(each.dim() == 4 and not each.is_nested for each in call.tensors)


def _same_dtype(call: AttentionCall, allowed: tuple[torch.dtype, ...]) -> bool:
    return call.query.dtype in allowed and all(each.dtype == call.query.dtype for each in call.tensors)


def _has_positions(call: AttentionCall) -> bool:
    return call.query.shape[-2] != 0 and call.key.shape[-2] != 0


def _last_stride_is_one(call: AttentionCall, *, but_single: bool) -> bool:
    dense = all(each.stride(-1) == 1 for each in call.tensors) or (but_single and call.query.shape[-1] == 1)
    return dense and (call.mask is None or call.mask.stride(-1) == 1)


def _heads_fit(call: AttentionCall, *, grouped: bool, one_key_value: bool = True) -> bool:
    """Equal batches, and equal heads, or query heads in groups where a kernel can and the caller asks for it.

    From torch 2.14 on a single head of keys and values serves all heads of queries unasked.
    """
    heads = [each.shape[-3] for each in call.tensors]
    if len({each.shape[0] for each in call.tensors}) != 1:
        return False
    if call.enable_gqa and grouped:
        if one_key_value and heads[1] != heads[2]:
            return False
        return heads[0] % heads[1] == 0 and heads[0] % heads[2] == 0
    return len(set(heads)) == 1 or (call.release >= (2, 14) and heads[0] > 0 and heads[1:] == [1, 1])


def _mask_fits(call: AttentionCall) -> bool:
    """check_attn_mask_shape: a mask of two or four dimensions that broadcasts, and that nobody trains."""
    mask = call.mask
    if mask is None:
        return True
    wanted = (call.query.shape[0], call.query.shape[1], call.query.shape[2], call.key.shape[2])
    if mask.requires_grad or mask.dim() not in (2, 4):
        return False
    return all(size in (1, want) for size, want in zip(reversed(mask.shape), reversed(wanted), strict=False))


_BACKENDS: dict[int, tuple[SDPBackend, Callable[[AttentionCall, Gpu], bool]]] = {
    3: (SDPBackend.CUDNN_ATTENTION, _cudnn),
    1: (SDPBackend.FLASH_ATTENTION, _flash),
    2: (SDPBackend.EFFICIENT_ATTENTION, _efficient),
    0: (SDPBackend.MATH, _math),
}
