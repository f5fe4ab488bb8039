"""Convolutions: hand calculations, and loops that do and count every multiply-add, forward and backward."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pytest_flopguard.core.measurement import OpCall
from pytest_flopguard.core.tensors import TensorSpec
from pytest_flopguard.formulas.registry import default_registry

Flops = Callable[..., int]
REGISTRY = default_registry()


class Case(NamedTuple):
    """A convolution, drawn so that it has an output."""

    x: Tensor
    weight: Tensor
    stride: list[int]
    padding: list[int]
    dilation: list[int]
    groups: int
    transposed: bool
    output_padding: list[int]

    def run(self, x: Tensor, weight: Tensor) -> Tensor:
        return torch.ops.aten.convolution(x, weight, None, *self.options())

    def options(self) -> tuple[Any, ...]:
        return self.stride, self.padding, self.dilation, self.transposed, self.output_padding, self.groups


@st.composite
def cases(draw: Any, transposed: bool) -> Case:
    dims = draw(st.integers(1, 3))
    some = st.lists(st.integers(1, 2), min_size=dims, max_size=dims)
    groups = draw(st.integers(1, 3))
    kernel, stride, dilation = draw(some), draw(some), draw(some)
    padding = draw(st.lists(st.integers(0, 1), min_size=dims, max_size=dims))
    per_group = [draw(st.integers(1, 2)) * each for each in (1, groups)]
    # Positions that the kernel fits into at least once, with room for a padding to crop.
    least = [dilation[each] * (kernel[each] - 1) + 1 for each in range(dims)]
    size = [draw(st.integers(0, 2)) + (3 if transposed else least[each]) for each in range(dims)]
    batch = draw(st.integers(1, 2))
    if transposed:
        channels, weight = per_group[1], [per_group[1], per_group[0], *kernel]
    else:
        channels, weight = per_group[0] * groups, [per_group[1], per_group[0], *kernel]
    extra = [min(draw(st.integers(0, 1)), max(stride[i], dilation[i]) - 1) if transposed else 0 for i in range(dims)]
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(-3, 4, [batch, channels, *size], generator=generator).double()
    w = torch.randint(-3, 4, weight, generator=generator).double()
    return Case(x, w, stride, padding, dilation, groups, transposed, extra)


class Loops(NamedTuple):
    """What the loops found: the output, both gradients, and the multiply-adds of each."""

    out: Tensor
    grad_x: Tensor
    grad_weight: Tensor
    done: dict[str, int]


def taps(case: Case) -> Any:
    """Yield the places of each multiply-add: of the position that the kernel lies at, of the one it meets, its own."""
    kernel = case.weight.shape[2:]
    at = case.x.shape[2:] if case.transposed else case.run(case.x, case.weight).shape[2:]
    for position, k in product(product(*map(range, at)), product(*map(range, kernel))):
        met = [p * s + each * d for p, s, each, d in zip(position, case.stride, k, case.dilation, strict=True)]
        yield list(position), met, list(k)


def loop(case: Case, grad: Tensor) -> Loops:
    """Convolve one multiply-add after the other; every one is done, also where it meets the padding."""
    sparse, dense = (case.x, grad) if case.transposed else (grad, case.x)
    margin = [each for size in reversed(case.padding) for each in (size, size + 8)]
    padded = torch.nn.functional.pad(dense, margin)
    sums = {"out": torch.zeros_like(padded if case.transposed else grad)}
    sums |= {"x": torch.zeros_like(case.x if case.transposed else padded), "weight": torch.zeros_like(case.weight)}
    done = dict.fromkeys(sums, 0)
    first, second = case.weight.shape[0] // case.groups, case.weight.shape[1]
    for (position, met, k), batch, group in product(list(taps(case)), range(sparse.shape[0]), range(case.groups)):
        for i, j in product(range(first), range(second)):
            here = (batch, group * first + i, *position)
            there = (batch, group * second + j, *met)
            weight = (group * first + i, j, *k)
            if case.transposed:
                sums["out"][there] += case.x[here] * case.weight[weight]
                sums["x"][here] += padded[there] * case.weight[weight]
                sums["weight"][weight] += padded[there] * case.x[here]
            else:
                sums["out"][here] += padded[there] * case.weight[weight]
                sums["x"][there] += grad[here] * case.weight[weight]
                sums["weight"][weight] += grad[here] * padded[there]
            done = {name: number + 1 for name, number in done.items()}
    inside = (..., *(slice(p, p + n) for p, n in zip(case.padding, dense.shape[2:], strict=True)))
    cropped = "out" if case.transposed else "x"
    sums[cropped] = sums[cropped][inside]
    return Loops(sums["out"], sums["x"], sums["weight"], done)


def spec(value: Any) -> Any:
    return TensorSpec(tuple(value.shape)) if isinstance(value, Tensor) else value


def count(op: str, *arguments: Any, out: Tensor | None = None) -> int | None:
    return REGISTRY.cost(OpCall(op=op, args=tuple(map(spec, arguments)), out=spec(out))).flops


def check(case: Case) -> None:
    x, weight = case.x.clone().requires_grad_(), case.weight.clone().requires_grad_()
    out = case.run(x, weight)
    grad = torch.ones_like(out).cumsum(-1)
    out.backward(grad)
    loops = loop(case, grad)
    assert torch.equal(loops.out, out)
    assert torch.equal(loops.grad_x, x.grad)
    assert torch.equal(loops.grad_weight, weight.grad)
    options = case.options()
    assert count("aten.convolution", case.x, case.weight, None, *options, out=out) == 2 * loops.done["out"]
    for mask in product((False, True), repeat=3):
        expected = mask[0] * loops.done["x"] + mask[1] * loops.done["weight"]
        arguments = (grad, case.x, case.weight, None, *options, list(mask))
        assert count("aten.convolution_backward", *arguments) == 2 * expected
        assert count("aten.convolution_backward_overrideable", *arguments[:3], *arguments[4:]) == 2 * expected
    if case.transposed:
        assert count("aten.slow_conv_transpose2d", case.x, case.weight, out=out) == 2 * loops.done["out"]
    else:
        assert count("aten.mkldnn_convolution", case.x, case.weight, None, out=out) == 2 * loops.done["out"]


@given(cases(transposed=False))
@settings(max_examples=50, deadline=None)
def test_loops_do_as_many_multiply_adds_as_counted(case: Case) -> None:
    check(case)


@given(cases(transposed=True))
@settings(max_examples=50, deadline=None)
def test_transposed_loops_do_as_many_multiply_adds_as_counted(case: Case) -> None:
    check(case)


RESNET_STEM = ((1, 3, 224, 224), (64, 3, 7, 7), None, [2, 2], [3, 3], [1, 1])


@pytest.mark.parametrize(
    ("x", "weight", "out", "groups", "expected"),
    [
        # 64 * 3 * 7 * 7 weights at 112 * 112 places, 2 each: the first layer of ResNet-50.
        ((1, 3, 224, 224), (64, 3, 7, 7), (1, 64, 112, 112), 1, 236_027_904),
        # Depthwise: 8 * 1 * 3 * 3 weights at 2 * 10 * 10 places.
        ((2, 8, 10, 10), (8, 1, 3, 3), (2, 8, 10, 10), 8, 28_800),
        # 4 * 2 * 3 weights at 5 * 7 places.
        ((5, 2, 9), (4, 2, 3), (5, 4, 7), 1, 1680),
        # 2 * 3 * 2 * 2 * 2 weights at 4 places of a volume.
        ((1, 3, 2, 2, 5), (2, 3, 2, 2, 2), (1, 2, 1, 1, 4), 1, 384),
        # An empty batch.
        ((0, 3, 8, 8), (4, 3, 3, 3), (0, 4, 6, 6), 1, 0),
    ],
)
def test_a_weight_is_used_at_every_place_of_the_output(
    flops: Flops, x: Any, weight: Any, out: Any, groups: int, expected: int
) -> None:
    n = len(x) - 2
    options = ([1] * n, [0] * n, [1] * n, False, [0] * n, groups)
    assert flops("aten.convolution", x, weight, None, *options, out=out) == expected
    assert flops("aten._convolution", x, weight, None, *options, False, True, True, True, out=out) == expected
    # Both gradients cost the forward each, whatever the groups; the bias's is a sum.
    assert flops("aten.convolution_backward", out, x, weight, None, *options, [True, True, True]) == 2 * expected
    assert flops("aten.convolution_backward", out, x, weight, None, *options, [False, True, True]) == expected
    assert flops("aten.convolution_backward", out, x, weight, None, *options, [False, False, True]) == 0


def test_the_bias_and_the_padding_change_nothing(flops: Flops) -> None:
    out = (1, 64, 112, 112)
    plain = flops("aten.convolution", *RESNET_STEM, False, [0, 0], 1, out=out)
    with_bias = flops("aten.convolution", *RESNET_STEM[:2], (64,), *RESNET_STEM[3:], False, [0, 0], 1, out=out)
    assert plain == with_bias == 236_027_904


def test_a_transposed_weight_is_used_at_every_place_of_the_input(flops: Flops) -> None:
    # 3 * 2 * 4 * 4 weights at 2 * 5 * 5 places, 2 each; the 10 * 10 places of the output do not matter.
    options = ([2, 2], [1, 1], [1, 1], True, [0, 0], 1)
    x, weight, out = (2, 3, 5, 5), (3, 2, 4, 4), (2, 2, 10, 10)
    assert flops("aten.convolution", x, weight, None, *options, out=out) == 9600
    assert flops("aten.convolution_backward", out, x, weight, None, *options, [True, True, False]) == 19_200
    assert flops("aten.cudnn_convolution_transpose", x, weight) == 9600


def test_a_complex_weight_counts_four_times(registry: Any) -> None:
    x, weight, out = (TensorSpec(shape, "complex64") for shape in ((1, 2, 5), (3, 2, 2), (1, 3, 4)))
    call = OpCall(op="aten.convolution", args=(x, weight, None, (1,), (0,), (1,), False, (0,), 1), out=out)
    # 3 * 2 * 2 weights at 4 places, 8 each.
    assert registry.cost(call).flops == 384


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_torch_convolves_complex_numbers_as_three_real_ones(tally: Callable[..., Any], device: str) -> None:
    x = torch.ones(2, 4, 8, 8, dtype=torch.cfloat, device=device, requires_grad=True)
    weight = torch.ones(6, 4, 3, 3, dtype=torch.cfloat, device=device, requires_grad=True)
    with_gradients = tally(lambda: torch.nn.functional.conv2d(x, weight).sum().abs().backward())
    # 216 weights at 2 * 6 * 6 places are 15,552 complex multiply-adds, 6 each; and as much for each gradient.
    assert (with_gradients.forward, with_gradients.backward) == (93_312, 2 * 93_312)
    with torch.inference_mode():
        assert tally(lambda: torch.nn.functional.conv2d(x, weight)).total == 93_312


@pytest.mark.parametrize(
    "op", ["aten._conv_depthwise2d", "aten.slow_conv_dilated2d", "aten._slow_conv2d_forward", "aten.cudnn_convolution"]
)
def test_named_kernels_count_as_the_convolution(flops: Flops, op: str) -> None:
    # 8 * 1 * 3 * 3 weights at 2 * 10 * 10 places.
    assert flops(op, (2, 8, 12, 12), (8, 1, 3, 3), [3, 3], None, out=(2, 8, 10, 10)) == 28_800


@given(time=st.integers(1, 4), batch=st.integers(1, 2), channels=st.integers(1, 3), out_channels=st.integers(1, 3))
@settings(deadline=None)
def test_time_first_convolution_counts_the_same(time: int, batch: int, channels: int, out_channels: int) -> None:
    weight = torch.ones(2, channels, out_channels)
    x = torch.ones(time, batch, channels)
    out = torch.conv_tbc(x, weight, torch.zeros(out_channels), 1)
    twin = Case(x.permute(1, 2, 0), weight.permute(2, 1, 0), [1], [1], [1], 1, False, [0])
    twin_out = twin.run(twin.x, twin.weight)
    assert twin_out.shape == out.permute(1, 2, 0).shape
    expected = count("aten.convolution", twin.x, twin.weight, None, *twin.options(), out=twin_out)
    assert count("aten.conv_tbc", x, weight, out=out) == expected
