"""Ops that run in cuDNN, cuSOLVER, cuFFT or cub, whose workspaces only those libraries know.

cuDNN picks a plan for a convolution when it meets it (Conv_v8.cpp) and takes the plan's workspace from the allocator;
size and plan change with shape, type, layout, GPU and cuDNN version, and with ``torch.backends.cudnn.benchmark``.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import torch

from pytest_flopguard.backends.simulated.convolution_choice import Kernel, kernel, layout
from pytest_flopguard.backends.simulated.hidden_memory import Call, Entry, Hidden, UnknownWorkspace, joined, size_of
from pytest_flopguard.backends.simulated.reduction_workspaces import reduce_over

# Beginnings of the names of ops, the library that they run in, and what it works on.
FAMILIES: Mapping[str, str] = MappingProxyType(
    {
        "aten::_cudnn_rnn": "cuDNN's workspace for a recurrent layer",
        "aten::_cudnn_ctc_loss": "cuDNN's workspace for CTC loss",
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
        "aten::_sparse": "cuSPARSE's workspace",
        "aten::_trilinear": "the products of a bilinear form",
        "aten::_euclidean_dist": "what pairwise distances take",
        "aten::soft_margin_loss": "what a loss of several ops takes",
        "aten::masked_scatter_backward": "cub's storage for finding chosen values",
        "aten::conv_tbc": "the products of a convolution",
    }
)


# Ops of torch without kernels of their own: what is asked of tensors, notes of profilers, and calls between processes,
# whose buffers lie outside the allocator.
_WITHOUT_KERNELS = ("prim::", "prims::", "profiler::", "c10d::", "_c10d_functional::", "_dtensor::")


def family(name: str) -> Entry | None:
    """Return the entry of an op that has no line of its own: unknown for a library's and for strangers, else None."""
    if not name.startswith("aten::"):
        return None if name.startswith(_WITHOUT_KERNELS) else _unknown(f"what {name} takes for itself")
    for beginning, what in FAMILIES.items():
        if name.startswith(beginning):
            return _unknown(what)
    return None


def _unknown(what: str) -> Entry:
    def entry(call: Call) -> Hidden:
        tensors = [each for each in call.args if isinstance(each, torch.Tensor) and each.numel()]
        return UnknownWorkspace(reason=f"{what}{_over(tensors)}")

    return entry


def _over(tensors: list[torch.Tensor]) -> str:
    shapes = (f"{'x'.join(map(str, each.shape))} {str(each.dtype).removeprefix('torch.')}" for each in tensors[:2])
    return f" over {' and '.join(shapes)}" if tensors else ""


def _convolution(call: Call) -> Hidden:
    x, weight, _, stride, _, _, transposed, padding, groups = call.args[:9]
    return _convolved("", [x, weight], kernel(x, weight, stride, transposed, padding, groups, call.gpu))


def _convolution_backward(call: Call) -> Hidden:
    """Besides the convolutions of both gradients: the bias's gradient is a sum."""
    grad, x, weight, _, stride, _, _, transposed, padding, groups, wanted = call.args[:11]
    found = _convolved(
        "the backward of ", [x, weight, grad], kernel(x, weight, stride, transposed, padding, groups, call.gpu)
    )
    if not wanted[2]:
        return found
    dims = [0, *range(2, grad.dim())]
    bias = reduce_over(
        grad, dims, max(4, grad.element_size()), call.gpu, grad.dtype, 8 if grad.element_size() == 2 else 4
    )
    return joined(found, bias)


def _convolved(what: str, tensors: list[torch.Tensor], by: Kernel) -> Hidden:
    """Copies of what lies otherwise than the result, and the workspace: none of the kernel for one filter a channel."""
    wanted = layout(tensors[0], tensors[1]) if by == "cudnn" else torch.contiguous_format
    copied = tuple(
        size_of(each)
        for each in tensors
        if not (each.is_contiguous(memory_format=wanted) if each.dim() == tensors[1].dim() else each.is_contiguous())
    )
    if by == "depthwise":
        return copied
    whose = "cuDNN's workspace for" if by == "cudnn" else "the unfolded input of"
    return UnknownWorkspace(reason=f"{whose} {what}a convolution{_over(tensors)}", known=copied)


def _cudnn_batch_norm(call: Call) -> Hidden:
    """None outside training (cudnnBatchNormalizationForwardInference)."""
    if not call.args[5]:
        return ()
    return UnknownWorkspace(reason=f"cuDNN's workspace for batch normalisation{_over([call.args[0]])}")


ENTRIES: Mapping[str, Entry] = MappingProxyType(
    {
        "aten::convolution": _convolution,
        "aten::_convolution": _convolution,
        "aten::convolution_overrideable": _convolution,
        "aten::convolution_backward": _convolution_backward,
        "aten::cudnn_batch_norm": _cudnn_batch_norm,
        # A vector norm is a reduction, and a cross product elementwise: the family of cuSOLVER begins alike.
        "aten::linalg_cross": lambda call: (),
    }
)
