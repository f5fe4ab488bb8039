"""Convolution kernels whose forward or backward is an op of its own: as the convolutions and gradients of conv.py."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pytest_flopguard.core.tensors import TensorSpec
from pytest_flopguard.formulas.ops import conv
from pytest_flopguard.formulas.registry import formula


@formula("aten._nnpack_spatial_convolution")
def nnpack_convolution(x: TensorSpec, weight: TensorSpec, *_: Any, out: TensorSpec) -> int:
    """As direct_convolution."""
    return conv.direct_convolution(x, weight, out=out)


@formula("aten._slow_conv2d_backward")
def slow_backward(
    grad_out: TensorSpec,
    x: TensorSpec,
    weight: TensorSpec,
    kernel_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    output_mask: Sequence[bool] = (True, True, True),
    **_: Any,
) -> int:
    """The forward's FLOPs for each of grad-input and grad-weight; an overload without a mask gives both."""
    once = conv.direct_convolution(x, weight, out=grad_out)
    return once * (bool(output_mask[0]) + bool(output_mask[1]))


@formula("aten.mps_convolution_backward")
def mps_backward(x: TensorSpec, grad_out: TensorSpec, weight: TensorSpec, *rest: Any) -> int:
    """The forward's FLOPs for each of grad-input and grad-weight that the output mask asks for."""
    return conv.direct_convolution(x, weight, out=grad_out) * (bool(rest[-1][0]) + bool(rest[-1][1]))


@formula("aten.mps_convolution_transpose_backward")
def mps_transpose_backward(x: TensorSpec, grad_out: TensorSpec, weight: TensorSpec, *rest: Any) -> int:
    """The forward's FLOPs for each of grad-input and grad-weight that the output mask asks for."""
    return conv.transposed_convolution(x, weight) * (bool(rest[-1][0]) + bool(rest[-1][1]))
