"""Fourier transforms: hand calculations, a radix-2 transform that counts itself, and torch's functions."""

from __future__ import annotations

import cmath
from collections.abc import Callable
from decimal import localcontext
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pytest_flopguard.core.measurement import FlopTally, OpCall
from pytest_flopguard.core.tensors import TensorSpec
from pytest_flopguard.formulas.registry import default_registry

Tally = Callable[[Callable[[], Any]], FlopTally]
Flops = Callable[..., int]
REGISTRY = default_registry()


def count(op: str, shape: tuple[int, ...], dim: list[int]) -> int:
    spec = TensorSpec(shape, "complex64")
    found = REGISTRY.cost(OpCall(op=op, args=(spec, dim, 0, True), out=spec)).flops
    assert found is not None
    return found


def radix_2(x: list[complex]) -> tuple[list[complex], int]:
    """Transform a power of two of points; returns the result and the real additions and multiplications done."""
    if len(x) == 1:
        return x, 0
    (even, first), (odd, second) = radix_2(x[::2]), radix_2(x[1::2])
    done = first + second
    low, high = [], []
    for k, (a, b) in enumerate(zip(even, odd, strict=True)):
        turned = cmath.exp(-2j * cmath.pi * k / len(x)) * b
        low.append(a + turned)
        high.append(a - turned)
        done += 6 + 2 + 2  # a complex multiplication and two complex additions
    return low + high, done


@pytest.mark.parametrize("points", [1, 2, 4, 8, 64])
def test_powers_of_two_count_what_radix_2_does(points: int) -> None:
    x = [complex(each, 1) for each in range(points)]
    result, done = radix_2(x)
    torch.testing.assert_close(torch.tensor(result), torch.fft.fft(torch.tensor(x)))
    assert count("aten._fft_c2c", (points,), [0]) == done


@pytest.mark.parametrize(
    ("op", "shape", "dim", "expected"),
    [
        # 5 * 8 * 3
        ("aten._fft_c2c", (8,), [0], 120),
        # Three of them; the dimension may be counted from the end.
        ("aten._fft_c2c", (3, 8), [1], 360),
        ("aten._fft_c2c", (8, 3), [-2], 360),
        # 4 * 8 points: 5 * 32 * (2 + 3), as 8 columns of 5*4*2 and 4 rows of 5*8*3.
        ("aten._fft_c2c", (4, 8), [0, 1], 800),
        ("aten._fft_c2c", (2, 4, 8), [1, 2], 1600),
        # 5 * 3 * log2(3) = 23.77, then four of the rounded ones: not 95.
        ("aten._fft_c2c", (3,), [0], 24),
        ("aten._fft_c2c", (4, 3), [1], 96),
        # 5 * 1000 * 9.965784... = 49,828.92
        ("aten._fft_c2c", (1000,), [0], 49_829),
        # Half of the above, rounded by itself: 24,914.46.
        ("aten._fft_r2c", (1000,), [0], 24_914),
        ("aten._fft_c2r", (1000,), [0], 24_914),
        ("aten._fft_r2c", (2, 8), [1], 120),
        # 2.5 * 2 * 1
        ("aten._fft_r2c", (2,), [0], 5),
        # One point is its own transform, and no dimension is no transform.
        ("aten._fft_c2c", (1,), [0], 0),
        ("aten._fft_c2c", (8,), [], 0),
        ("aten._fft_c2c", (0, 8), [1], 0),
        # 5 * 2**30 * 30
        ("aten._fft_c2c", (2**30,), [0], 161_061_273_600),
    ],
)
def test_by_hand(op: str, shape: tuple[int, ...], dim: list[int], expected: int) -> None:
    assert count(op, shape, dim) == expected


@given(st.integers(min_value=1, max_value=10**6), st.integers(min_value=1, max_value=10**6))
def test_more_points_never_cost_less(first: int, second: int) -> None:
    small, large = sorted((first, second))
    assert count("aten._fft_c2c", (small,), [0]) <= count("aten._fft_c2c", (large,), [0])


def test_a_users_decimal_context_changes_nothing() -> None:
    with localcontext() as context:
        context.prec = 3
        assert count("aten._fft_c2c", (1000,), [0]) == 49_829


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        # 3 real transforms of 16 points: 2.5 * 16 * 4 each, whether all of the result is written or half of it.
        (torch.fft.rfft, 480),
        (torch.fft.fft, 480),
        # Two real dimensions in one op: 2.5 * 48 * log2(48) = 670.2.
        (torch.fft.rfft2, 670),
        # The last dimension counts what is transformed, not what came: padded to 32, 2.5 * 32 * 5 each.
        (lambda x: torch.fft.rfft(x, n=32), 1200),
        # 2 * (16 - 1) = 30 real points: 2.5 * 30 * log2(30) = 368.02.
        (lambda x: torch.fft.irfft(x.to(torch.complex64)), 1104),
        # One frame in each row: 2.5 * 16 * 4.
        (lambda x: torch.stft(x, 16, center=False, window=torch.ones_like(x[0]), return_complex=True), 480),
    ],
)
def test_torchs_functions(tally: Tally, function: Callable[..., Any], expected: int) -> None:
    x = torch.randn(3, 16)
    for device in ("cpu", "meta"):
        found = tally(lambda device=device: function(x.to(device)))
        assert found.forward == expected
    with torch.inference_mode():
        assert tally(lambda: function(x)).forward == expected


def test_backward_is_what_autograd_runs(tally: Tally) -> None:
    # The gradient of a real transform runs a complex one over all points: 5 * 16 * 4 = 320 for 160.
    x = torch.randn(16, requires_grad=True)
    found = tally(lambda: torch.fft.rfft(x).abs().sum().backward())
    assert (found.forward, found.backward) == (160, 320)
    # That of a complex one is its inverse.
    z = torch.randn(16, dtype=torch.complex64, requires_grad=True)
    found = tally(lambda: torch.fft.fft(z).abs().sum().backward())
    assert (found.forward, found.backward) == (320, 320)
