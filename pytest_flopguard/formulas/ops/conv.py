"""Convolutions. Each output position of each output channel is a dot product over in-channels-per-group and kernel.

The weight [out, in/groups, *kernel] holds exactly one multiplier for each (output channel, term of its dot
product), and is used once for every batch item and output position: numel(weight) * batch * positions
multiply-adds. Positions in the padding are counted, as every kernel computes them. A transposed convolution is the
same with input and output swapped: its weight is used once for every *input* position. The gradient of the input
and the gradient of the weight each pair the same elements once more, so each costs what the forward cost,
whatever the groups; the gradient of the bias is a sum, which the convention leaves out.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from pytest_flopguard.core.tensors import TensorSpec
from pytest_flopguard.formulas.ops.matmul import multiply_adds
from pytest_flopguard.formulas.registry import formula


def _passes(weight: TensorSpec, positions: TensorSpec) -> int:
    """FLOPs of using the whole weight at each spatial position of a [batch, channels, *spatial] tensor."""
    return multiply_adds(weight.numel * positions.shape[0] * prod(positions.shape[2:]), weight)


@formula("aten.convolution", "aten._convolution", "aten.convolution_overrideable")
def convolution(
    x: TensorSpec,
    weight: TensorSpec,
    bias: TensorSpec | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    *_: Any,
    out: TensorSpec,
) -> int:
    """numel(weight) * batch * positions multiply-adds, positions of the output (of the input if transposed)."""
    return _passes(weight, x if transposed else out)


@formula("aten.convolution_backward", "aten.convolution_backward_overrideable")
def convolution_backward(grad_out: TensorSpec, x: TensorSpec, weight: TensorSpec, *rest: Any, **__: Any) -> int:
    """The forward's FLOPs for each of grad-input and grad-weight that the output mask asks for."""
    # convolution_backward has bias_sizes before stride, the overrideable variant has not: count from the end.
    *_, transposed, _output_padding, _groups, output_mask = rest
    once = _passes(weight, x if transposed else grad_out)
    return once * (bool(output_mask[0]) + bool(output_mask[1]))


@formula(
    "aten.mkldnn_convolution",
    "aten.cudnn_convolution",
    "aten.cudnn_convolution_relu",
    "aten.cudnn_convolution_add_relu",
    "aten.miopen_convolution",
    "aten.miopen_convolution_relu",
    "aten.miopen_convolution_add_relu",
    "aten.miopen_depthwise_convolution",
    "aten._conv_depthwise2d",
    "aten.conv_depthwise3d",
    "aten.slow_conv_dilated2d",
    "aten.slow_conv_dilated3d",
    "aten.slow_conv3d_forward",
    "aten._slow_conv2d_forward",
    "aten._mps_convolution",
)
def direct_convolution(x: TensorSpec, weight: TensorSpec, *_: Any, out: TensorSpec, **__: Any) -> int:
    """A named kernel of the plain convolution: numel(weight) * batch * output positions multiply-adds."""
    return _passes(weight, out)


@formula(
    "aten.cudnn_convolution_transpose",
    "aten.miopen_convolution_transpose",
    "aten.slow_conv_transpose2d",
    "aten.slow_conv_transpose3d",
    "aten._mps_convolution_transpose",
)
def transposed_convolution(x: TensorSpec, weight: TensorSpec, *_: Any, **__: Any) -> int:
    """A named kernel of the transposed convolution: numel(weight) * batch * input positions multiply-adds."""
    return _passes(weight, x)


@formula("aten.conv_tbc")
def conv_tbc(x: TensorSpec, weight: TensorSpec, *_: Any, out: TensorSpec) -> int:
    """Time-batch-channel layout: weight [kernel, in, out] once for each of time*batch output positions."""
    return multiply_adds(weight.numel * out.shape[0] * out.shape[1], weight)


@formula("aten.conv_tbc_backward")
def conv_tbc_backward(grad: TensorSpec, x: TensorSpec, weight: TensorSpec, *_: Any) -> int:
    """The gradients of input and weight, both of them: twice conv_tbc; a whole op in inference mode only."""
    return 2 * conv_tbc(x, weight, out=grad)
