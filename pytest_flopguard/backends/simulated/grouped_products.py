"""Products of groups of rows or columns (``grouped_mm``), as experts of a mixture are run: what they return and take.

Sources: aten/src/ATen/native/GroupedMMUtils.h (_grouped_mm_validate_inputs, create_grouped_gemm_output_tensor,
_grouped_mm_fallback), cuda/GroupedBlas.cpp (_grouped_mm_cuda) and cuda/GroupMM.cu (the kernel of bfloat16).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import torch

from pytest_flopguard.backends.simulated.hidden_memory import Call, Entry, Hidden, UnknownWorkspace, few_arrays

_aten = torch.ops.aten
_DTYPES = (torch.bfloat16, torch.float32, torch.float16)
_ALIGNMENT = 16  # bytes, of rows and of beginnings
# Three pointers and three strides a group of eight bytes each, and three int32 for its shape.
_POINTERS, _STRIDES, _SIZES = 3 * 8, 3 * 8, 3 * 4


def _shapes(
    a: torch.Tensor,
    b: torch.Tensor,
    offs: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    out_dtype: torch.dtype | None = None,
) -> torch.Tensor:
    """Rows of the result begin at multiples of 16 bytes."""
    _validate(a, b, offs, bias)
    if out_dtype is not None and out_dtype != a.dtype:
        raise RuntimeError("Grouped gemm output dtype must match `mat_a` dtype")
    groups = None if offs is None else offs.shape[0]
    if a.dim() == b.dim() == 2:
        size = [groups or 0, a.shape[0], b.shape[1]]
    elif a.dim() == 2:
        size = [a.shape[0], b.shape[-1]]
    elif b.dim() == 2:
        size = [a.shape[1], b.shape[1]]
    else:
        size = [a.shape[0], a.shape[1], b.shape[-1]]
    if (a.dim() == b.dim() == 3 and a.shape[0] != b.shape[0]) or (
        a.dim() != b.dim() and groups != (b if a.dim() == 2 else a).shape[0]
    ):
        raise RuntimeError("matrix batch sizes have to match")
    step = _ALIGNMENT // a.element_size()
    row = -(-size[-1] // step) * step
    strides = [row, 1] if len(size) == 2 else [size[1] * row, row, 1]
    return a.new_empty_strided(size, strides)


def _validate(a: torch.Tensor, b: torch.Tensor, offs: torch.Tensor | None, bias: torch.Tensor | None) -> None:
    for name, each in (("mat_a", a), ("mat_b", b)):
        if each.dtype not in _DTYPES:
            raise RuntimeError(f"Expected {name} to be Float32, BFloat16 or Float16 matrix, got {each.dtype}")
        if each.dim() not in (2, 3):
            raise RuntimeError(f"{name} has to be 2 or 3d")
    if (a.dim() == 3 or b.dim() == 3) and a.shape[-1] != b.shape[-2]:
        raise RuntimeError("contraction dimension of mat_a and mat_b must match")
    for each in (a, b):
        _check_layout(each)
    if (offs is not None) != (a.dim() == 2 or b.dim() == 2):
        raise RuntimeError("Have to provide offsets if there is a 2d matrix, or no offset if both matrices are 3d")
    if offs is not None and (offs.dim() != 1 or offs.dtype != torch.int32):
        raise RuntimeError("offs has to be 1D" if offs.dim() != 1 else "Offsets have to be int32")
    if bias is not None:
        raise RuntimeError("Bias not supported yet")


def _check_layout(matrix: torch.Tensor) -> None:
    """check_valid_strides_and_return_transposed."""
    step = _ALIGNMENT // matrix.element_size()
    (outer, inner), (rows, columns) = matrix.stride()[-2:], matrix.shape[-2:]
    if matrix.device.type != "cpu" and matrix.storage_offset() % step:
        raise RuntimeError("expected data_ptr to be aligned to 16 bytes")
    if outer == 1 and inner >= max(1, rows):
        lead = inner
    elif inner == 1 and outer >= max(1, columns):
        lead = outer
    else:
        strides, sizes = list(matrix.stride()), list(matrix.shape)
        raise RuntimeError(f"Invalid strides/sizes, got {strides} for strides and {sizes} for sizes")
    if lead % step:
        raise RuntimeError("strides should be multiple of 16 bytes")


def _memory(call: Call) -> Hidden:
    """Nothing where groups are multiplied one by one; bfloat16 on sm90 and sm100 is one kernel of CUTLASS."""
    a, b = call.args[:2]
    if not (a.dtype == b.dtype == torch.bfloat16 and call.gpu.capability[0] in (9, 10)):
        return ()
    offs = call.argument(2, "offs")
    groups = offs.shape[0] if offs is not None else a.shape[0]
    pointers = (groups + groups % 2) * _POINTERS  # in pairs, of 16 bytes
    return UnknownWorkspace(
        reason=f"CUTLASS's workspace for products of {groups} groups",
        known=(pointers + groups * (_STRIDES + _SIZES),),
        most=few_arrays(a, b),
    )


# In place of torch's own answer, which knows bfloat16 alone and pads rows in builds for CUDA alone.
ANSWERS: tuple[tuple[Any, Callable[..., Any]], ...] = ((_aten._grouped_mm.default, _shapes),)
ENTRIES: Mapping[str, Entry] = MappingProxyType({"aten::_grouped_mm": _memory})
