"""Convolution kernels with an op of their own: the same numbers as the convolutions that they compute."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from pytest_flopguard.core.measurement import FlopTally

Tally = Callable[[Callable[[], Any]], FlopTally]
Flops = Callable[..., int]

# Weight [8, 4, 3, 3] once for each of 2 * 5*5 output positions: 2 * 288 * 50.
X, WEIGHT, OUT, ONCE = (2, 4, 5, 5), (8, 4, 3, 3), (2, 8, 5, 5), 28_800
SLOW = ([3, 3], [1, 1], [1, 1])
MPS = ([1, 1], [1, 1], [1, 1], 1)
# Transposed, [4, 8, 3, 3] once for each of 2 * 5*5 input positions.
TRANSPOSED = ([1, 1], [0, 0], [1, 1], [1, 1], 1)


@pytest.mark.parametrize(
    ("op", "arguments", "expected"),
    [
        ("aten._slow_conv2d_backward", [OUT, X, WEIGHT, *SLOW, [True, True, True]], 2 * ONCE),
        ("aten._slow_conv2d_backward", [OUT, X, WEIGHT, *SLOW, [False, True, True]], ONCE),
        ("aten._slow_conv2d_backward", [OUT, X, WEIGHT, *SLOW, [False, False, True]], 0),
        ("aten._slow_conv2d_backward", [OUT, X, WEIGHT, *SLOW], 2 * ONCE),
        ("aten.mps_convolution_backward", [X, OUT, WEIGHT, *MPS, [True, True, False]], 2 * ONCE),
        ("aten.mps_convolution_backward", [X, OUT, WEIGHT, *MPS, [True, False, False]], ONCE),
        ("aten.mps_convolution_transpose_backward", [X, OUT, (4, 8, 3, 3), *TRANSPOSED, [True, True]], 2 * ONCE),
        ("aten.mps_convolution_transpose_backward", [X, OUT, (4, 8, 3, 3), *TRANSPOSED, [False, True]], ONCE),
    ],
)
def test_each_gradient_is_one_more_convolution(flops: Flops, op: str, arguments: list[Any], expected: int) -> None:
    assert flops(op, *arguments) == expected


def test_the_kernels_that_run_here(tally: Tally) -> None:
    x, weight, out = torch.randn(X), torch.randn(WEIGHT), torch.randn(OUT)
    expected = torch.nn.functional.conv2d(x, weight, padding=1)
    torch.testing.assert_close(torch.ops.aten._slow_conv2d_forward(x, weight, (3, 3), None, (1, 1), (1, 1)), expected)
    found = tally(lambda: torch.ops.aten._slow_conv2d_forward(x, weight, (3, 3), None, (1, 1), (1, 1)))
    assert found.total == ONCE
    backward = torch.ops.aten._slow_conv2d_backward.output_mask
    found = tally(lambda: backward(out, x, weight, (3, 3), (1, 1), (1, 1), (True, True, False)))
    assert found.total == 2 * ONCE


def test_nnpack(flops: Flops) -> None:
    assert flops("aten._nnpack_spatial_convolution", X, WEIGHT, None, [1, 1], out=OUT) == ONCE
