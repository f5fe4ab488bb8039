"""Discrete Fourier transforms by convention: 5 * N * log2(N) FLOPs for N complex points, half of it for N real ones.

That is what the radix-2 algorithm of Cooley and Tukey takes (N/2 * log2(N) butterflies of 10 FLOPs), and the unit
in which FFTW's authors rate transforms of any length (Frigo and Johnson, The Design and Implementation of FFTW3,
Proceedings of the IEEE 93, 2005). What a kernel really does for a given length depends on the device.
Over several dimensions, N is the product of their lengths: the transforms of the single ones sum to that.
Where 5 * N * log2(N) is no integer, it is rounded to the nearest one, for each transform of a batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import ROUND_HALF_EVEN, Context, Decimal
from math import prod
from typing import Any

from pytest_flopguard.core.tensors import TensorSpec
from pytest_flopguard.formulas.registry import formula

# A context of our own: decimals round alike on every machine, floats and a user's context may not.
_EXACT = Context(prec=60, rounding=ROUND_HALF_EVEN)
_LN_2 = _EXACT.ln(Decimal(2))


def _transforms(spec: TensorSpec, dim: Sequence[int], halves: int) -> int:
    """FLOPs of transforming a tensor of points along some dimensions; two halves for complex points, one for real."""
    points = prod(spec.shape[each] for each in dim)
    if not points or not spec.numel:
        return 0
    log2 = _EXACT.divide(_EXACT.ln(Decimal(points)), _LN_2)
    one = _EXACT.multiply(Decimal(halves * 5 * points) / 2, log2)
    return spec.numel // points * int(one.to_integral_value(context=_EXACT))


@formula("aten._fft_c2c", "prims.fft_c2c")
def complex_transform(x: TensorSpec, dim: Sequence[int], *_: Any, **__: Any) -> int:
    """N complex points, forward or inverse: 5 * N * log2(N)."""
    return _transforms(x, dim, 2)


@formula("aten._fft_r2c", "prims.fft_r2c")
def real_transform(x: TensorSpec, dim: Sequence[int], *_: Any, **__: Any) -> int:
    """N real points: 2.5 * N * log2(N); the other half of the result is its mirror image, written out or not."""
    return _transforms(x, dim, 1)


@formula("aten._fft_c2r", "prims.fft_c2r")
def transform_to_real(x: TensorSpec, dim: Sequence[int], *_: Any, out: TensorSpec, **__: Any) -> int:
    """N real points of the result: 2.5 * N * log2(N)."""
    return _transforms(out, dim, 1)
