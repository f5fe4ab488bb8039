"""Quantized models count what the models on floats do; packed weights tell their sizes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.ao import quantization

from pytest_flopguard.core.measurement import FlopTally

Tally = Callable[[Callable[[], Any]], FlopTally]
Flops = Callable[..., int]
pytestmark = pytest.mark.filterwarnings("ignore")


class Wrapped(nn.Module):
    """A model between floats and integers."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.quantize, self.dequantize = quantization.QuantStub(), quantization.DeQuantStub()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.dequantize(self.layers(self.quantize(x)))
        return out


def quantized(x: torch.Tensor, *layers: nn.Module) -> nn.Module:
    """Quantize a model statically, calibrated on one input."""
    model = Wrapped(*layers).eval()
    per_tensor = quantization.QConfig(quantization.default_observer, quantization.default_weight_observer)
    model.qconfig = per_tensor
    quantization.prepare(model, inplace=True)
    model(x)
    quantization.convert(model, inplace=True)
    return model


LINEAR = [nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4)]


def test_dynamic_linear_layers_count_as_plain_ones(tally: Tally) -> None:
    model = nn.Sequential(*LINEAR)
    x = torch.randn(5, 3, 8)
    # 15 rows: 2 * 15 * (8*16 + 16*4).
    expected = 5760
    assert tally(lambda: model(x)).forward == expected
    for dtype in (torch.qint8, torch.float16):
        dynamic = quantization.quantize_dynamic(model, {nn.Linear}, dtype=dtype)
        found = tally(lambda dynamic=dynamic: dynamic(x))
        assert any(op.startswith("quantized.linear_dynamic") for op in found.by_op())
        assert found.total == expected
        with torch.inference_mode():
            assert tally(lambda dynamic=dynamic: dynamic(x)).total == expected


@pytest.mark.parametrize(
    ("shape", "layers"),
    [
        ((5, 8), LINEAR),
        ((2, 4, 9), [nn.Conv1d(4, 6, 3, stride=2, groups=2)]),
        ((2, 4, 9, 9), [nn.Conv2d(4, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=8), nn.AvgPool2d(2)]),
        ((2, 4, 5, 5, 5), [nn.Conv3d(4, 6, 3, dilation=2)]),
        ((2, 4, 9), [nn.ConvTranspose1d(4, 6, 3, stride=2)]),
        ((2, 4, 5, 5), [nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2)]),
    ],
    ids=lambda each: type(each[0]).__name__ if isinstance(each, list) else "x".join(map(str, each)),
)
def test_static_models_count_as_plain_ones(tally: Tally, shape: tuple[int, ...], layers: list[nn.Module]) -> None:
    x = torch.randn(shape)
    engine = torch.backends.quantized.engine
    if isinstance(layers[0], nn.ConvTranspose1d | nn.ConvTranspose2d):
        # The others have no transposed convolutions with one scale for all channels.
        torch.backends.quantized.engine = "qnnpack"
    try:
        model = quantized(x, *layers)
        with torch.no_grad():
            found = tally(lambda: model(x))
            plain = tally(lambda: nn.Sequential(*layers)(x))
    finally:
        torch.backends.quantized.engine = engine
    assert found.unknown_ops == ()
    assert all(op.startswith("quantized.") for op in found.by_op())
    assert found.total == plain.total != 0


def test_fused_and_elementwise_ops_are_known(tally: Tally) -> None:
    a = torch.quantize_per_tensor(torch.randn(2, 3, 8), 0.1, 0, torch.quint8)
    ops: Any = torch.ops.quantized
    found = tally(
        lambda: (
            ops.add(a, a, 0.1, 0),
            ops.add_relu(a, a, 0.1, 0),
            ops.mul(a, a, 0.1, 0),
            ops.mul_scalar(a, 2.0),
            ops.cat([a, a], 0, 0.1, 0),
            ops.hardswish(a, 0.1, 0),
            ops.leaky_relu(a, 0.1, False, 0.1, 0),
            ops.sigmoid(a, 0.1, 0),
        )
    )
    assert found.unknown_ops == ()
    assert found.total == 0
    b = torch.quantize_per_tensor(torch.randn(2, 8, 5), 0.1, 0, torch.qint8)
    a = torch.quantize_per_tensor(torch.randn(2, 3, 8), 0.1, 0, torch.qint8)
    # 2 * 2*3*8*5
    assert tally(lambda: ops.matmul(a, b, 0.1, 0)).total == 480


def test_each_packed_weight_is_its_own(tally: Tally) -> None:
    # Two models with inputs and results of one shape.
    x = torch.randn(1, 4, 8, 8)
    small, large = quantized(x, nn.Conv2d(4, 4, 1)), quantized(x, nn.Conv2d(4, 4, 3, padding=1))
    with torch.no_grad():
        found = tally(lambda: (small(x), large(x)))
    # 64 positions of 16 and of 144 multiply-adds.
    assert found.total == 2 * 64 * (16 + 144)


@pytest.mark.parametrize(
    ("op", "arguments", "out", "expected"),
    [
        # [3, 64] and a packed weight of [32, 64]: 2 * 3*64 * 32.
        ("aten._weight_int4pack_mm", [(3, 64), (4, 2, 32, 4), 32, (2, 32, 2)], (3, 32), 12_288),
        ("aten._weight_int4pack_mm_for_cpu", [(3, 64), (32, 32), 32, (2, 32, 2)], (3, 32), 12_288),
        ("aten._weight_int8pack_mm", [(3, 64), (32, 64), (32,)], (3, 32), 12_288),
        ("aten._dyn_quant_matmul_4bit", [(3, 64), (1280,), 32, 64, 32], (3, 32), 12_288),
        ("aten._mixed_dtypes_linear", [(3, 64), (64, 32), (32,)], (3, 32), 12_288),
        ("onednn.qlinear_pointwise", [(3, 64), 0.1, 0, (64, 32), (32,), (32,)], (3, 32), 12_288),
        # [8, 4, 3, 3], or [2, 4, 4, 3, 3] with groups, once for 2 * 5*5 positions.
        ("onednn.qconv2d_pointwise", [(2, 4, 5, 5), 0.1, 0, (8, 4, 3, 3)], (2, 8, 5, 5), 28_800),
        ("onednn.qconv2d_pointwise", [(2, 8, 5, 5), 0.1, 0, (2, 4, 4, 3, 3)], (2, 8, 5, 5), 28_800),
        # 6 indices of width 4.
        ("quantized.embedding_bag_byte", [None, (6,), (2,), False, 0, False, (6,)], (2, 4), 48),
        ("quantized.embedding_bag_byte", [None, (6,), (2,), False, 0, False, None], (2, 4), 0),
        ("quantized.embedding_bag_byte", [None, (6,)], (2, 4), 0),
    ],
)
def test_by_hand(flops: Flops, op: str, arguments: list[Any], out: tuple[int, ...], expected: int) -> None:
    assert flops(op, *arguments, out=out) == expected


def test_packed_weights_run_here(tally: Tally) -> None:
    x = torch.randn(3, 64, dtype=torch.bfloat16)
    weight = torch.randint(-128, 127, (32, 64), dtype=torch.int8)
    assert tally(lambda: torch._weight_int8pack_mm(x, weight, torch.ones(32, dtype=torch.bfloat16))).total == 12_288
    packed = torch._convert_weight_to_int4pack_for_cpu(torch.randint(0, 15, (32, 64), dtype=torch.int32), 1)
    scales = torch.ones(2, 32, 2, dtype=torch.bfloat16)
    assert tally(lambda: torch._weight_int4pack_mm_for_cpu(x, packed, 32, scales)).total == 12_288
