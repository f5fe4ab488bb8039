"""Ops that run in cuDNN, cuSOLVER, cuFFT or cub, whose workspaces only those libraries know.

cuDNN picks a plan for a convolution when it meets it (Conv_v8.cpp) and takes the plan's workspace from the allocator;
size and plan change with shape, type, layout, GPU and cuDNN version, and with ``torch.backends.cudnn.benchmark``.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import torch

from pytest_flopguard.backends.simulated.hidden_memory import Call, Entry, Hidden, UnknownWorkspace

# Beginnings of the names of ops, the library that they run in, and what it works on.
FAMILIES: Mapping[str, str] = MappingProxyType(
    {
        "aten::_cudnn_rnn": "cuDNN's workspace for a recurrent layer",
        "aten::_cudnn_ctc_loss": "cuDNN's workspace for CTC loss",
        "aten::_ctc_loss": "the alphas and betas of CTC loss",
        "aten::cudnn_batch_norm": "cuDNN's workspace for batch normalisation",
        "aten::cudnn_convolution": "cuDNN's workspace for a convolution",
        "aten::cudnn_grid_sampler": "cuDNN's workspace for sampling a grid",
        "aten::_fft_": "cuFFT's workspace",
        "aten::linalg_": "cuSOLVER's workspace",
        "aten::_linalg_": "cuSOLVER's workspace",
        "aten::cholesky": "cuSOLVER's workspace",
        "aten::_cholesky": "cuSOLVER's workspace",
        "aten::lu_": "cuSOLVER's workspace",
        "aten::ormqr": "cuSOLVER's workspace",
        "aten::geqrf": "cuSOLVER's workspace",
        "aten::kthvalue": "what selecting the k-th value takes",
        "aten::median": "what selecting the median takes",
        "aten::nanmedian": "what selecting the median takes",
        "aten::mode": "what finding the mode takes",
        "aten::multinomial": "what drawing from a distribution takes",
        "aten::histc": "what counting into bins takes",
        "aten::bincount": "what counting into bins takes",
        "aten::unique": "cub's storage for finding unique values",
        "aten::_unique": "cub's storage for finding unique values",
        "aten::nonzero": "cub's storage for finding nonzero values",
        "aten::masked_select": "cub's storage for finding chosen values",
        "aten::masked_scatter": "cub's storage for counting chosen values",
        "aten::randperm": "cub's storage for sorting random keys",
        "aten::cummax": "what a scan with indices takes",
        "aten::cummin": "what a scan with indices takes",
        "aten::_embedding_bag": "cub's storage for sorting the indices of bags",
        "aten::searchsorted": "copies of boundaries and values",
        "aten::bucketize": "copies of boundaries and values",
        "aten::_cdist": "what pairwise distances take",
        "aten::scatter_reduce": "what reducing by index takes",
        "aten::_grouped_mm": "CUTLASS's workspace for grouped products",
        "aten::_sparse": "cuSPARSE's workspace",
    }
)


def family(name: str) -> Entry | None:
    """Return the entry of an op that has no line of its own: unknown for a library's op, None for all others."""
    for beginning, what in FAMILIES.items():
        if name.startswith(beginning):
            return _unknown(what)
    return None


def _unknown(what: str) -> Entry:
    def entry(call: Call) -> Hidden:
        tensors = [each for each in call.args if isinstance(each, torch.Tensor)]
        return UnknownWorkspace(reason=f"{what}{_over(tensors)}")

    return entry


def _over(tensors: list[torch.Tensor]) -> str:
    shapes = (f"{'x'.join(map(str, each.shape))} {str(each.dtype).removeprefix('torch.')}" for each in tensors[:2])
    return f" over {' and '.join(shapes)}" if tensors else ""


def _convolution(call: Call) -> Hidden:
    x, weight = call.args[0], call.args[1]
    return UnknownWorkspace(reason=f"cuDNN's workspace for a convolution{_over([x, weight])}")


def _convolution_backward(call: Call) -> Hidden:
    _, x, weight = call.args[0], call.args[1], call.args[2]
    return UnknownWorkspace(reason=f"cuDNN's workspace for the backward of a convolution{_over([x, weight])}")


ENTRIES: Mapping[str, Entry] = MappingProxyType(
    {
        "aten::convolution": _convolution,
        "aten::_convolution": _convolution,
        "aten::convolution_overrideable": _convolution,
        "aten::convolution_backward": _convolution_backward,
        # A vector norm is a reduction, and a cross product elementwise: the family of cuSOLVER begins alike.
        "aten::linalg_cross": lambda call: (),
    }
)
