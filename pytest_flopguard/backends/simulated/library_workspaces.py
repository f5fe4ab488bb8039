"""Ops that run in cuDNN, cuSOLVER, cuFFT or cub, whose workspaces only those libraries know.

cuDNN picks a plan for a convolution when it meets it (Conv_v8.cpp) and takes the plan's workspace from the allocator;
size and plan change with shape, type, layout, GPU and cuDNN version, and with ``torch.backends.cudnn.benchmark``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import torch

from pytest_flopguard.backends.constant_tensors import tensors
from pytest_flopguard.backends.simulated.convolution_choice import Kernel, kernel, layout
from pytest_flopguard.backends.simulated.hidden_memory import (
    Call,
    Entry,
    EstimatedWorkspace,
    Hidden,
    UnknownWorkspace,
    few_arrays,
    joined,
    size_of,
)
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


# Families whose kernels take a few arrays of the size of their operands.
_BOUNDED = {
    "aten::kthvalue", "aten::median", "aten::nanmedian", "aten::mode", "aten::multinomial", "aten::histc",
    "aten::bincount", "aten::unique", "aten::_unique", "aten::nonzero", "aten::masked_select", "aten::masked_scatter",
    "aten::masked_scatter_backward", "aten::cummax", "aten::cummin", "aten::_embedding_bag", "aten::searchsorted",
    "aten::bucketize", "aten::scatter_reduce",
}  # fmt: skip
_HALF = (torch.float16, torch.bfloat16)


# Ops of torch without kernels of their own: what is asked of tensors, notes of profilers, and calls between processes,
# whose buffers lie outside the allocator.
_WITHOUT_KERNELS = ("prim::", "prims::", "profiler::", "c10d::", "_c10d_functional::", "_dtensor::")


def family(name: str) -> Entry | None:
    """Return the entry of an op that has no line of its own: unknown for a library's and for strangers, else None."""
    if not name.startswith("aten::"):
        return None if name.startswith(_WITHOUT_KERNELS) else _unknown(f"what {name} takes for itself")
    for beginning, what in FAMILIES.items():
        if name.startswith(beginning):
            return _unknown(what, bounded=beginning in _BOUNDED)
    return None


def _unknown(what: str, *, bounded: bool = False) -> Entry:
    def entry(call: Call) -> Hidden:
        tensors = [each for each in call.args if isinstance(each, torch.Tensor) and each.numel()]
        most = few_arrays(*tensors) if bounded else None
        return UnknownWorkspace(reason=f"{what}{_over(tensors)}", most=most)

    return entry


def _over(tensors: list[torch.Tensor]) -> str:
    shapes = (f"{'x'.join(map(str, each.shape))} {str(each.dtype).removeprefix('torch.')}" for each in tensors[:2])
    return f" over {' and '.join(shapes)}" if tensors else ""


def _convolution(call: Call) -> Hidden:
    x, weight, _, stride, _, dilation, transposed, padding, groups = call.args[:9]
    by = kernel(x, weight, stride, transposed, padding, groups, call.gpu)
    found = _convolved("", [x, weight], by, _columns(x, weight, call.out, dilation, transposed, groups))
    if by == "cudnn" and groups == 1 and not transposed and _is_half_nchw(x, weight):
        # 10 of 10 recordings of pytorch#123533, all float16: cuDNN's kernels for tensor cores work on channels last.
        copied = found.known if isinstance(found, UnknownWorkspace) else found
        rule = f"cuDNN's workspace for a convolution{_over([x, weight])} holds its input and its output once more"
        return EstimatedWorkspace(rule=rule, blocks=(*copied, size_of(x) + size_of(call.out)))
    return found


def _is_half_nchw(x: torch.Tensor, weight: torch.Tensor) -> bool:
    """Whether a convolution is like the recorded ones: 16 bits, channels first, multiples of 8 channels."""
    aligned = weight.shape[0] % 8 == 0 and weight.shape[1] % 8 == 0
    plain = layout(x, weight) is torch.contiguous_format
    return plain and aligned and x.dim() == 4 and x.dtype == weight.dtype and x.dtype in _HALF


def _columns(
    x: torch.Tensor, weight: torch.Tensor, out: torch.Tensor, dilation: Sequence[int], transposed: bool, groups: int
) -> int | None:
    """Bytes of the unfolded input of one sample (ConvolutionMM2d.cu), also where each filter has one element.

    None for the kernels of other files: dilated, transposed, 3D, and groups.
    """
    if transposed or groups != 1 or x.dim() not in (3, 4) or any(each != 1 for each in dilation):
        return None
    return weight[0].numel() * out.shape[2:].numel() * x.element_size()


def _convolution_backward(call: Call) -> Hidden:
    """Besides the convolutions of both gradients: the bias's gradient is a sum."""
    grad, x, weight, _, stride, _, dilation, transposed, padding, groups, wanted = call.args[:11]
    found = _convolved(
        "the backward of ",
        [x, weight, grad],
        kernel(x, weight, stride, transposed, padding, groups, call.gpu),
        _columns(x, weight, grad, dilation, transposed, groups) if wanted[0] or wanted[1] else 0,
    )
    if not wanted[2]:
        return found
    dims = [0, *range(2, grad.dim())]
    bias = reduce_over(
        grad, dims, max(4, grad.element_size()), call.gpu, grad.dtype, 8 if grad.element_size() == 2 else 4
    )
    return joined(found, bias)


def _convolved(
    what: str, tensors: list[torch.Tensor], by: Kernel, columns: int | None
) -> tuple[int, ...] | UnknownWorkspace:
    """Copies of what lies otherwise than the result, and the workspace: none of the kernel for one filter a channel.

    ``columns`` are the bytes of the unfolded input, None where they are not known.
    """
    wanted = layout(tensors[0], tensors[1]) if by == "cudnn" else torch.contiguous_format
    copied = tuple(
        size_of(each)
        for each in tensors
        if not (each.is_contiguous(memory_format=wanted) if each.dim() == tensors[1].dim() else each.is_contiguous())
    )
    if by == "depthwise":
        return copied
    if by == "slow" and columns is not None:
        return (*copied, columns)
    whose = "cuDNN's workspace for" if by == "cudnn" else "the unfolded input of"
    return UnknownWorkspace(reason=f"{whose} {what}a convolution{_over(tensors)}", known=copied)


def _cudnn_batch_norm(call: Call) -> Hidden:
    """None outside training (cudnnBatchNormalizationForwardInference)."""
    if not call.args[5]:
        return ()
    return UnknownWorkspace(reason=f"cuDNN's workspace for batch normalisation{_over([call.args[0]])}")


def _packed_addresses(call: Call) -> Hidden:
    # Eight bytes for each block of threads, which copies at least 128 elements; 4 MiB for one block a tensor.
    elements = sum(each.numel() for each in tensors((*call.args, *call.kwargs.values())))
    return UnknownWorkspace(reason="the addresses of tensors that one kernel copies", most=elements // 16 + 4 * 2**20)


ENTRIES: Mapping[str, Entry] = MappingProxyType(
    {
        "aten::convolution": _convolution,
        "aten::_convolution": _convolution,
        "aten::convolution_overrideable": _convolution,
        "aten::convolution_backward": _convolution_backward,
        "aten::cudnn_batch_norm": _cudnn_batch_norm,
        # A vector norm is a reduction, and a cross product elementwise: the family of cuSOLVER begins alike.
        "aten::linalg_cross": lambda call: (),
        # FSDP copies lists of tensors in one kernel, and puts the kernel's addresses and sizes on the device first
        # (TensorShape.cu).
        "fsdp::all_gather_copy_in": lambda call: (),
        "fsdp::split_with_sizes_copy": _packed_addresses,
        "fsdp::chunk_cat": _packed_addresses,
        "aten::split_with_sizes_copy": _packed_addresses,
        "aten::_chunk_cat": _packed_addresses,
    }
)
