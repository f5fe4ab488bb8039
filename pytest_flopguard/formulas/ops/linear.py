"""Linear layers and general matrix products whose backward is one op: each gradient asked for is one more product."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pytest_flopguard.core.tensors import TensorSpec
from pytest_flopguard.formulas.ops import matmul
from pytest_flopguard.formulas.ops.matmul import multiply_adds
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


@formula("aten.affine_grid_generator", "aten.cudnn_affine_grid_generator")
def affine_grid(theta: TensorSpec, *_: Any, out: TensorSpec) -> int:
    """Homogeneous coordinates [positions, d + 1] times a [d + 1, d] matrix for each image: 2 * numel(out) * (d + 1)."""
    return multiply_adds(out.numel * (out.shape[-1] + 1), theta)


@formula("aten.cudnn_affine_grid_generator_backward")
def affine_grid_backward(grad: TensorSpec, *_: Any) -> int:
    """The matrix's gradient pairs the same elements once more; other devices run it as ``aten.bmm``."""
    return affine_grid(grad, out=grad)


@formula("torch_nn._linear_cross_entropy_batch_chunked")
def linear_cross_entropy(x: TensorSpec, weight: TensorSpec, *rest: Any, **_: Any) -> int:
    """A projection to classes and its loss, in chunks of the batch: 2 * numel(x) * classes.

    The gradients that backward will scale are computed with it: as much again for that of x, and for the weight's.
    """
    of_input, of_weight, _of_bias = rest[-3:]
    return matmul.linear(x, weight) * (1 + bool(of_input) + bool(of_weight))


@formula("torch_nn._linear_cross_entropy_batch_chunked_no_reduction")
def linear_cross_entropy_each(x: TensorSpec, weight: TensorSpec, *_: Any) -> int:
    """As linear_cross_entropy, one loss for each item; the gradients are ops of the backward."""
    return matmul.linear(x, weight)
