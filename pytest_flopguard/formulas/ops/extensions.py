"""Products of libraries that extend torch: bitsandbytes' quantized layers, pyg-lib's products of groups.

Schemas: bitsandbytes/_ops.py, and pyg_lib/csrc/ops/matmul.cpp.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod
from typing import Any

from pytest_flopguard.core.measurement import Cost
from pytest_flopguard.core.tensors import TensorSpec
from pytest_flopguard.formulas.ops import matmul
from pytest_flopguard.formulas.ops.matmul import multiply_adds
from pytest_flopguard.formulas.registry import formula

_QUANTIZING = """
int8_vectorwise_quant int8_vectorwise_dequant int8_mm_dequant int8_double_quant quantize_4bit dequantize_4bit
quantize_blockwise dequantize_blockwise optimizer_update_32bit optimizer_update_8bit_blockwise
"""

UNCOUNTED = tuple(f"bitsandbytes.{name}" for name in _QUANTIZING.split())


@formula("bitsandbytes.int8_linear_matmul", "bitsandbytes.int8_scaled_mm")
def int8_linear(x: TensorSpec, weight: TensorSpec, *_: Any, **__: Any) -> int:
    """[*, K] @ [N, K].T: 2 * numel(x) * N."""
    return matmul.linear(x, weight)


@formula("bitsandbytes.int8_mixed_scaled_mm")
def int8_mixed_linear(
    x: TensorSpec,
    x_int8: TensorSpec,
    weight: TensorSpec,
    x_scale: TensorSpec,
    weight_scale: TensorSpec,
    outliers: TensorSpec | None = None,
    *_: Any,
    **__: Any,
) -> int:
    """[*, K] @ [N, K].T in 8 bits, and the outlier columns in x's own dtype: 2 * rows * (K + outliers) * N."""
    rows = prod(x.shape[:-1])
    columns = x.shape[-1] + (0 if outliers is None else outliers.numel)
    return multiply_adds(rows * columns * weight.shape[0], x)


@formula("bitsandbytes.gemm_4bit", "bitsandbytes.gemv_4bit")
def four_bit_linear(x: TensorSpec, packed: TensorSpec, shape: Sequence[int], *_: Any, **__: Any) -> int:
    """[*, K] and a packed weight of [N, K]: 2 * numel(x) * N."""
    return multiply_adds(x.numel * shape[0], x)


@formula("pyg.segment_matmul", reads=("ptr",))
def segment_matmul(x: TensorSpec, ptr: TensorSpec, other: TensorSpec, *_: Any) -> Cost:
    """As grouped_mm of rows, with the beginning of the first group before its ends: 2*T*K*N."""
    ends = replace(ptr, values=None if ptr.values is None else ptr.values[1:])
    return matmul.grouped_mm(x, other, ends)


@formula("pyg.grouped_matmul")
def grouped_matmul(x: Sequence[TensorSpec], other: Sequence[TensorSpec], *_: Any) -> int:
    """A list of products [M, K] @ [K, N]: the sum of 2*M*K*N."""
    return sum(matmul.mm(left, right) for left, right in zip(x, other, strict=True))
