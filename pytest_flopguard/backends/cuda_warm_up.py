"""Lets CUDA libraries take what they keep for ever, so that no test's peak depends on which test ran first.

cuBLAS takes a workspace for each thread and stream, cuDNN and attention kernels load lazily, and each first use does
so. One small step that uses all of them, forward and backward, leaves them where a second one finds them.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn import functional

from pytest_flopguard.backends.op_watch import OpWatch


def warm_up(watch: OpWatch | None, device: str = "cuda") -> None:
    """Run the small step on a device, unseen by the watch, and leave values drawn at random as they would be."""
    dtypes = [torch.float32, torch.float16]
    if device != "cuda" or torch.cuda.is_bf16_supported(including_emulation=False):
        dtypes.append(torch.bfloat16)
    devices = [torch.cuda.current_device()] if device == "cuda" else []
    with _unseen(watch), torch.random.fork_rng(devices=devices), torch.inference_mode(False), torch.enable_grad():
        for dtype in dtypes:
            _step(device, dtype)
    gc.collect()
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.empty_cache()


@contextmanager
def _unseen(watch: OpWatch | None) -> Iterator[None]:
    if watch is None:
        yield
        return
    before = watch.paused, watch.modules.paused
    watch.paused = watch.modules.paused = True
    try:
        yield
    finally:
        watch.paused, watch.modules.paused = before


def _step(device: str, dtype: torch.dtype) -> None:
    image = torch.zeros(2, 8, 16, 16, device=device, dtype=dtype)
    convolution = nn.Conv2d(8, 8, 3, device=device, dtype=dtype)
    linear = nn.Linear(64, 64, device=device, dtype=dtype)
    rows = linear(torch.zeros(2, 16, 64, device=device, dtype=dtype))
    heads = rows.view(2, 16, 4, 16).transpose(1, 2)
    attended = functional.scaled_dot_product_attention(heads, heads, heads, is_causal=True)
    batched = torch.bmm(rows, rows.transpose(1, 2))
    (convolution(image).sum() + attended.sum() + batched.sum()).backward()
