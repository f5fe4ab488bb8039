"""DataParallel on the one GPU that is simulated: its input goes there, and its output is there already.

Both are functions of a CUDA build (torch/csrc/cuda/comm.cpp), which a build for CPUs does not have.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch

from pytest_flopguard.backends.simulated.cuda_kernels import another_gpu
from pytest_flopguard.backends.torch_api.replaced import GATHER, SCATTER

_GPU = torch.device("cuda", 0)


def scatter(
    tensor: torch.Tensor,
    devices: Sequence[int],
    chunk_sizes: Sequence[int] | None,
    dim: int,
    streams: Sequence[Any] | None = None,
) -> tuple[torch.Tensor]:
    """Return the whole tensor on the GPU, copied there on the stream that is given for it."""
    for each in devices:
        if each != 0:
            raise another_gpu(torch.device("cuda", each))
    stream = streams[0] if streams else None
    with nullcontext() if stream is None else torch.cuda.stream(stream):
        return (tensor.to(_GPU, non_blocking=True),)


def gather(tensors: Sequence[torch.Tensor], dim: int, destination: int | None = None) -> torch.Tensor:
    """Return the tensors in one, in new memory of the GPU, or of the CPU for -1."""
    if destination not in (None, -1, 0):
        raise another_gpu(torch.device("cuda", destination))
    gathered = torch.cat(tuple(tensors), dim)
    return gathered.cpu() if destination == -1 else gathered


REPLACEMENTS = ((*SCATTER, scatter), (*GATHER, gather))
