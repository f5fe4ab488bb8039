"""Hidden memory of matrix products and of selections: copies of operands that a kernel cannot read where they are.

Sources: aten/src/ATen/native/cuda/cuBlasCommonArgs.h (prepare_matrix_for_cublas), Blas.cpp
(prepare_batch_matrix_for_cublas, addmv), aten/src/ATen/native/TensorCompare.cpp (where_self_out).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import torch

from pytest_flopguard.backends.simulated.hidden_memory import Call, Entry, Hidden, size_of


def _readable(matrix: torch.Tensor) -> bool:
    """Whether cuBLAS can read a matrix, or a batch of them, by rows or by columns."""
    (rows, columns), (down, across) = matrix.shape[-2:], matrix.stride()[-2:]
    by_rows = across == 1 and down >= max(1, columns)
    by_columns = down == 1 and across >= max(1, rows)
    if matrix.dim() == 2:
        return by_rows or by_columns or matrix.is_contiguous() or matrix.t().is_contiguous()
    return by_rows or by_columns or (matrix.is_contiguous() and down != 0 and across != 0)


def _operands(call: Call) -> Hidden:
    """A contiguous clone of each operand that lies neither by rows nor by columns; conjugates are resolved."""
    return tuple(
        size_of(each)
        for each in call.args
        if isinstance(each, torch.Tensor)
        and each.dim() in (2, 3)
        and each.numel()
        and (each.is_conj() or not _readable(each))
    )


def _matrix_vector(call: Call) -> Hidden:
    """addmv: a matrix by neither rows nor columns is copied, and so is a vector of stride 0."""
    tensors = [each for each in call.args if isinstance(each, torch.Tensor)]
    *_, matrix, vector = tensors
    copied = [size_of(matrix)] if not _readable(matrix) else []
    return (*copied, *([size_of(vector)] if vector.stride(0) == 0 else []))


def _where(call: Call) -> Hidden:
    """Scalars on the CPU are moved to the device, and what has another type than the result is cast."""
    if len(call.args) < 3:
        return ()
    sizes = []
    for each in call.args:
        if not isinstance(each, torch.Tensor):
            continue
        is_condition = each is call.args[0]
        item = each.element_size() if is_condition else call.out.element_size()
        moved = each.device.type == "cpu" and each.dim() == 0
        cast = each.device.type != "cpu" and not is_condition and each.dtype != call.out.dtype
        if moved or cast:
            sizes.append(each.numel() * item)
    return tuple(sizes)


ENTRIES: Mapping[str, Entry] = MappingProxyType(
    {
        **{f"aten::{name}": _operands for name in ("mm", "bmm", "addmm", "baddbmm", "addbmm", "_addmm_activation")},
        "aten::mv": _matrix_vector,
        "aten::addmv": _matrix_vector,
        "aten::where": _where,
    }
)
