"""Convolutional networks as stacks of layers: generic ones, ResNet, AlexNet, VGG-16, MobileNetV2.

A convolution multiplies k^dims * inputs/groups numbers for each output channel and position: 2*B*positions*outputs*
(inputs/groups)*k^dims FLOPs, positions in the padding included. Biases, norms, activations and pooling are left out.
Backward is twice the forward, but for layers that read the image itself, which asks for no gradient: once. What papers
and torchvision print as "FLOPs" are multiply-adds, half of these numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from types import MappingProxyType
from typing import TypeAlias

from pytest_flopguard.core.errors import SizeError, message, unknown_name
from pytest_flopguard.formulas.breakdown import Breakdown, Term
from pytest_flopguard.formulas.sizes import divided, positive, whole


@dataclass(frozen=True, slots=True, kw_only=True)
class Conv:
    """A convolution with a kernel of the same length in each dimension."""

    name: str
    outputs: int
    kernel: int
    stride: int = 1
    padding: int = 0
    groups: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """Pooling with a window."""

    kernel: int
    stride: int
    padding: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolTo:
    """Pooling to a size in each dimension; 1 is global pooling."""

    size: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Dense:
    """A linear layer on everything that is left, flattened."""

    name: str
    outputs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Residual:
    """Two ways whose results are added; an empty shortcut is the input itself."""

    branch: tuple[Layer, ...]
    shortcut: tuple[Layer, ...] = ()


Layer: TypeAlias = Conv | Pool | PoolTo | Dense | Residual


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shape:
    """What flows: channels, size in each dimension, and whether it asks for a gradient."""

    channels: int
    size: tuple[int, ...]
    grad: bool


def _slid(what: str, size: tuple[int, ...], kernel: int, stride: int, padding: int) -> tuple[int, ...]:
    """Return in how many places a window stands along each dimension."""
    for name, value in (("kernel", kernel), ("stride", stride)):
        positive(f"the {name} of {what}", value)
    whole(f"the padding of {what}", padding)
    return tuple(positive(f"the size after {what}", (each + 2 * padding - kernel) // stride + 1) for each in size)


def _convolved(layer: Conv, shape: _Shape, batch: int) -> tuple[list[Term], _Shape]:
    size = _slid(layer.name, shape.size, layer.kernel, layer.stride, layer.padding)
    divided(f"the outputs of {layer.name}", layer.outputs, "groups", layer.groups)
    inputs = divided(f"the inputs of {layer.name}", shape.channels, "groups", layer.groups)
    taps = layer.kernel ** len(size)
    return _product(layer.name, batch, prod(size), layer.outputs, inputs * taps, shape, f"{inputs}*{taps}", size)


def _product(
    name: str, batch: int, positions: int, outputs: int, inner: int, shape: _Shape, told: str, size: tuple[int, ...]
) -> tuple[list[Term], _Shape]:
    flops = 2 * batch * positions * outputs * inner
    equation = f"2*B*{positions}*{outputs}*{told}"
    term = Term(name=name, equation=equation, each=flops, backward_each=None if shape.grad else flops)
    return [term], _Shape(channels=outputs, size=size, grad=True)


def _through(layer: Layer, shape: _Shape, batch: int) -> tuple[list[Term], _Shape]:
    """Terms of one layer, and what comes out."""
    if isinstance(layer, Conv):
        return _convolved(layer, shape, batch)
    if isinstance(layer, Dense):
        inputs, outputs = shape.channels * prod(shape.size), positive(f"the outputs of {layer.name}", layer.outputs)
        return _product(layer.name, batch, 1, outputs, inputs, shape, str(inputs), ())
    if isinstance(layer, Pool):
        size = _slid("pooling", shape.size, layer.kernel, layer.stride, layer.padding)
        return [], _Shape(channels=shape.channels, size=size, grad=shape.grad)
    if isinstance(layer, PoolTo):
        size = (positive("the size after pooling", layer.size),) * len(shape.size)
        return [], _Shape(channels=shape.channels, size=size, grad=shape.grad)
    terms, out = _walked(layer.branch, shape, batch)
    more, other = _walked(layer.shortcut, shape, batch)
    if (out.channels, out.size) != (other.channels, other.size):
        seen, rule = (other.channels, *other.size), f"what the branch gives, {(out.channels, *out.size)}"
        raise SizeError(message("bad-size", name="the shortcut", value=seen, rule=rule))
    return terms + more, out


def _walked(layers: tuple[Layer, ...], shape: _Shape, batch: int) -> tuple[list[Term], _Shape]:
    terms: list[Term] = []
    for layer in layers:
        found, shape = _through(layer, shape, batch)
        terms += found
    return terms, shape


def stack(
    name: str,
    layers: tuple[Layer, ...],
    *,
    batch: int = 1,
    channels: int = 3,
    size: tuple[int, ...] = (224, 224),
    source: str = "",
    input_grad: bool = False,
) -> Breakdown:
    """Any stack of layers on B inputs [channels, *size], of 1, 2 or 3 dimensions.

    Each term's equation is 2*B*positions*outputs*inputs-per-group*taps; layers alike are one term. ``input_grad`` asks
    for the gradient of the input, too.
    """
    sides = tuple(positive("size", each) for each in size)
    shape = _Shape(channels=positive("channels", channels), size=sides, grad=input_grad)
    terms, _ = _walked(layers, shape, positive("batch", batch))
    none = Breakdown(name=name, symbols=MappingProxyType({"B": batch}), source=source)
    # Joining lets equal layers be one row.
    return none + Breakdown(name=name, terms=tuple(terms))


_BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}


def resnet_layers(depth: int, *, classes: int = 1000) -> tuple[Layer, ...]:
    """Layers of a ResNet of 18, 34, 50, 101 or 152; in bottlenecks the 3x3 convolution strides, as in torchvision."""
    if depth not in _BLOCKS:
        raise unknown_name("ResNet", depth, map(str, _BLOCKS))
    layers: list[Layer] = [Conv(name="stem", outputs=64, kernel=7, stride=2, padding=3)]
    layers.append(Pool(kernel=3, stride=2, padding=1))
    width = 64
    for stage, blocks in enumerate(_BLOCKS[depth]):
        name, inner = f"stage{stage + 1}", 64 * 2**stage
        outputs = inner if depth < 50 else 4 * inner
        for block in range(blocks):
            stride = 2 if stage and not block else 1
            strided = Conv(name=name, outputs=inner, kernel=3, stride=stride, padding=1)
            branch: tuple[Layer, ...] = (strided, Conv(name=name, outputs=inner, kernel=3, padding=1))
            if depth >= 50:
                narrow, wide = (Conv(name=name, outputs=each, kernel=1) for each in (inner, outputs))
                branch = (narrow, strided, wide)
            projected = Conv(name=name, outputs=outputs, kernel=1, stride=stride)
            same = stride == 1 and width == outputs
            layers.append(Residual(branch=branch, shortcut=() if same else (projected,)))
            width = outputs
    return (*layers, PoolTo(), Dense(name="head", outputs=classes))


def resnet(depth: int, *, batch: int = 1, size: tuple[int, ...] = (224, 224), classes: int = 1000) -> Breakdown:
    """ResNet: stem, four stages, head. Source: He et al. 2015 (arXiv 1512.03385), table 1."""
    layers = resnet_layers(depth, classes=classes)
    return stack(f"ResNet-{depth}", layers, batch=batch, size=size, source="He et al. 2015, table 1")


ALEXNET: tuple[Layer, ...] = (
    Conv(name="conv1", outputs=64, kernel=11, stride=4, padding=2),
    Pool(kernel=3, stride=2),
    Conv(name="conv2", outputs=192, kernel=5, padding=2),
    Pool(kernel=3, stride=2),
    *(Conv(name=f"conv{3 + i}", outputs=each, kernel=3, padding=1) for i, each in enumerate((384, 256, 256))),
    Pool(kernel=3, stride=2),
    PoolTo(size=6),
    *(Dense(name=f"fc{6 + i}", outputs=each) for i, each in enumerate((4096, 4096, 1000))),
)


def alexnet(*, batch: int = 1, size: tuple[int, ...] = (224, 224)) -> Breakdown:
    """AlexNet of one column, as torchvision has it. Source: Krizhevsky 2014 (arXiv 1404.5997)."""
    return stack("AlexNet", ALEXNET, batch=batch, size=size, source="Krizhevsky 2014")


def _vgg(*stages: tuple[int, int]) -> tuple[Layer, ...]:
    layers: list[Layer] = []
    for number, (convolutions, width) in enumerate(stages, 1):
        layers += [Conv(name=f"stage{number}", outputs=width, kernel=3, padding=1)] * convolutions
        layers.append(Pool(kernel=2, stride=2))
    return (*layers, PoolTo(size=7), *(Dense(name="head", outputs=each) for each in (4096, 4096, 1000)))


VGG_16 = _vgg((2, 64), (2, 128), (3, 256), (3, 512), (3, 512))


def vgg16(*, batch: int = 1, size: tuple[int, ...] = (224, 224)) -> Breakdown:
    """VGG-16. Source: Simonyan and Zisserman 2014 (arXiv 1409.1556), table 1, configuration D."""
    return stack("VGG-16", VGG_16, batch=batch, size=size, source="Simonyan and Zisserman 2014, table 1")


def _inverted(name: str, inputs: int, expansion: int, outputs: int, stride: int) -> tuple[Layer, ...]:
    """Layers of an inverted residual: widen, one filter a channel, narrow."""
    wide = inputs * expansion
    layers: tuple[Layer, ...] = (
        Conv(name=name, outputs=wide, kernel=3, stride=stride, padding=1, groups=wide),
        Conv(name=name, outputs=outputs, kernel=1),
    )
    if expansion > 1:
        layers = (Conv(name=name, outputs=wide, kernel=1), *layers)
    return (Residual(branch=layers),) if stride == 1 and inputs == outputs else layers


# Expansion, channels, blocks and stride of each stage: table 2 of the paper.
_MOBILE = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))


def mobilenet_v2_layers(*, classes: int = 1000) -> tuple[Layer, ...]:
    """Layers of MobileNetV2 of width 1."""
    layers: list[Layer] = [Conv(name="stem", outputs=32, kernel=3, stride=2, padding=1)]
    inputs = 32
    for number, (expansion, outputs, blocks, stride) in enumerate(_MOBILE, 1):
        for block in range(blocks):
            layers += _inverted(f"stage{number}", inputs, expansion, outputs, 1 if block else stride)
            inputs = outputs
    return (*layers, Conv(name="head", outputs=1280, kernel=1), PoolTo(), Dense(name="head", outputs=classes))


def mobilenet_v2(*, batch: int = 1, size: tuple[int, ...] = (224, 224), classes: int = 1000) -> Breakdown:
    """MobileNetV2 of width 1. Source: Sandler et al. 2018 (arXiv 1801.04381), table 2."""
    layers = mobilenet_v2_layers(classes=classes)
    return stack("MobileNetV2", layers, batch=batch, size=size, source="Sandler et al. 2018, table 2")
