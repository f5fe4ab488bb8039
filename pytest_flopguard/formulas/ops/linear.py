"""Linear layers and general matrix products whose backward is one op: each gradient asked for is one more product."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pytest_flopguard.core.tensors import TensorSpec
from pytest_flopguard.formulas.ops import matmul
from pytest_flopguard.formulas.registry import formula


@formula("aten.mkldnn_linear")
def mkldnn_linear(x: TensorSpec, weight: TensorSpec, bias: TensorSpec | None = None) -> int:
    """[*, K] @ [N, K].T: 2 * numel(x) * N."""
    return matmul.linear(x, weight)


@formula("aten.linear_backward", "aten.mkldnn_linear_backward")
def linear_backward(x: TensorSpec, grad: TensorSpec, weight: TensorSpec, output_mask: Sequence[bool]) -> int:
    """The forward's FLOPs for each of grad-input and grad-weight that the output mask asks for."""
    return matmul.linear(x, weight) * (bool(output_mask[0]) + bool(output_mask[1]))


@formula("aten.mkldnn_linear_backward_input")
def linear_backward_input(input_size: Sequence[int], grad: TensorSpec, weight: TensorSpec) -> int:
    """[*, N] @ [N, K]: 2 * numel(grad) * K."""
    return matmul.linear(grad, TensorSpec(weight.shape[::-1]))


@formula("aten.mkldnn_linear_backward_weights")
def linear_backward_weights(grad: TensorSpec, x: TensorSpec, weight: TensorSpec, bias_defined: bool) -> int:
    """[N, *] @ [*, K]: 2 * numel(x) * N."""
    return matmul.linear(x, weight)


@formula("aten.matmul_backward")
def matmul_backward(grad: TensorSpec, a: TensorSpec, b: TensorSpec, mask: Sequence[bool], *_: Any) -> int:
    """The forward's FLOPs for each operand whose gradient the mask asks for."""
    return matmul.matmul(a, b) * (bool(mask[0]) + bool(mask[1]))
