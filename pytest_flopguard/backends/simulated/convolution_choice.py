"""What a GPU convolves with, and how the result lies in memory.

Source: aten/src/ATen/native/Convolution.cpp (ConvParams::use_cudnn, use_cudnn_depthwise, is_depthwise) and ConvUtils.h
(cudnn_conv_suggest_memory_format). A build without cuDNN answers otherwise, also for fake tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal
from unittest.mock import patch

import torch

from pytest_flopguard.backends.simulated.gpus import Gpu
from pytest_flopguard.backends.torch_api.replaced import CONVOLUTION_LAYOUT
from pytest_flopguard.backends.torch_api.tensors import suggest_memory_format

Kernel = Literal["cudnn", "depthwise", "slow"]


def layout(x: torch.Tensor, weight: torch.Tensor) -> torch.memory_format:
    """Return how cuDNN lays a result out: channels last where input or weight lie so, but not in float64."""
    if torch.float64 not in (x.dtype, weight.dtype):
        for dims, channels_last in ((4, torch.channels_last), (5, torch.channels_last_3d)):
            formats = (suggest_memory_format(each) for each in (x, weight))
            if weight.dim() == dims and channels_last in formats:
                return channels_last
    return torch.contiguous_format


def kernel(
    x: torch.Tensor,
    weight: torch.Tensor,
    stride: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
    gpu: Gpu,
) -> Kernel:
    """Return who convolves: cuDNN, torch's own kernel for one filter a channel, or torch's unfolded product."""
    bfloat16 = torch.bfloat16 in (x.dtype, weight.dtype)
    too_padded = any(padding >= step for padding, step in zip(output_padding, stride, strict=False))
    cudnn = torch.backends.cudnn.enabled and not (bfloat16 and gpu.capability < (8, 0)) and not too_padded
    channels = x.shape[1]
    one_filter = not transposed and x.dim() in (4, 5) and groups == channels > 1 and weight.shape[0] % channels == 0
    if not one_filter:
        return "cudnn" if cudnn else "slow"
    if cudnn and (layout(x, weight) is not torch.contiguous_format or _may_take_16_bits(x, weight)):
        return "cudnn"
    return "depthwise"


def _may_take_16_bits(x: torch.Tensor, weight: torch.Tensor) -> bool:
    """Whether cuDNN may have been measured to be faster (check_cudnn_depthwise_workload): never but in float16."""
    return x.dtype == weight.dtype == torch.float16 and x.dim() == 4 and x.shape[1] >= 32


@contextmanager
def cudnn_layouts() -> Iterator[None]:
    """Within the block fake CUDA convolutions lie as cuDNN's would."""
    asked: Callable[..., Any] = getattr(*CONVOLUTION_LAYOUT)

    def determine(x: torch.Tensor, weight: torch.Tensor, backend: Any) -> torch.memory_format:
        if x.device.type == "cuda" and torch.backends.cudnn.enabled:
            return layout(x, weight)
        answer: torch.memory_format = asked(x, weight, backend)
        return answer

    with patch.object(*CONVOLUTION_LAYOUT, determine):
        yield
