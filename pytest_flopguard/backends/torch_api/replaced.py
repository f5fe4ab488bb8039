"""Functions of torch that a simulated GPU replaces for a while: the module that has each, and its name there."""

from __future__ import annotations

from types import ModuleType
from typing import Final

import torch
from torch.nn.attention import SDPBackend

Place = tuple[ModuleType, str]

# torch.load restores the device of a fake tensor with it.
DEVICE_RESTORED: Final[Place] = (torch._utils, "_restore_device_fake_mode")
CONVOLUTION_LAYOUT: Final[Place] = (torch._C, "_conv_determine_backend_memory_format")
# DataParallel's own, which only a CUDA build has.
SCATTER: Final[Place] = (torch._C, "_scatter")
GATHER: Final[Place] = (torch._C, "_gather")
# What torch.backends.cuda asks of the attention kernels, for torch.nn.attention.bias and for others.
KERNEL_QUESTIONS: Final[tuple[tuple[Place, SDPBackend], ...]] = (
    ((torch._C, "_can_use_flash_attention"), SDPBackend.FLASH_ATTENTION),
    ((torch._C, "_can_use_mem_efficient_attention"), SDPBackend.EFFICIENT_ATTENTION),
    ((torch._C, "_can_use_cudnn_attention"), SDPBackend.CUDNN_ATTENTION),
)
# The module that torch.Generator comes from.
NATIVE: Final[ModuleType] = torch._C
