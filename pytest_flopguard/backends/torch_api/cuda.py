"""The allocator's history, and which attention kernels CUDA may use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Literal

import torch

attention_order: Callable[[], list[int]] = torch._C._get_sdp_priority_order
cudnn_attention_enabled: Callable[[], bool] = torch._C._get_cudnn_sdp_enabled
flash_attention_enabled: Callable[[], bool] = torch._C._get_flash_sdp_enabled
efficient_attention_enabled: Callable[[], bool] = torch._C._get_mem_efficient_sdp_enabled
math_attention_enabled: Callable[[], bool] = torch._C._get_math_sdp_enabled
math_attention_keeps_half: Callable[[], bool] = torch._C._get_math_sdp_allow_fp16_bf16_reduction

# Functions of torch.cuda and torch.cuda.memory that their public ones call.
IS_COMPILED: Final = "_is_compiled"
LAZY_INIT: Final = "_lazy_init"
EXCHANGES: Final = ("_exchange_device", "_maybe_exchange_device")
HISTORY: Final = ("_snapshot", "_dump_snapshot", "_record_memory_history")

# Makes the guard of devices that fake tensors need where there is no GPU.
GUARD_SETTER = "torch._C._ensureCUDADeviceGuardSet"
set_device_guard: Callable[[], None] | None = getattr(torch._C, "_ensureCUDADeviceGuardSet", None)


def history_is_recorded() -> bool:
    """Whether the allocator's history is recorded; only a CUDA build of torch can be asked."""
    return bool(torch._C._cuda_isHistoryEnabled())


def record_history(enabled: Literal["state", "all"] | None, **options: Any) -> None:
    """Start or, with None, end the recording of what the allocator does."""
    torch.cuda.memory._record_memory_history(enabled, **options)


def snapshot() -> dict[str, Any]:
    """Return what the allocator holds, and its recorded history."""
    found: dict[str, Any] = torch.cuda.memory._snapshot()
    return found
