"""CUDA graphs: their replay shows no op calls, so that a graph which may have been replayed must be told."""

from __future__ import annotations

import gc

import torch


def alive() -> int:
    """Number of captured CUDA graphs in this process; nothing tells which of them ran."""
    if not torch.cuda.is_initialized():
        return 0
    # The type itself, since an object may lie about its class or work to tell it.
    return sum(issubclass(type(each), torch.cuda.CUDAGraph) for each in gc.get_objects())
