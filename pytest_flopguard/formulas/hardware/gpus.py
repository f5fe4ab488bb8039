"""A GPU by name: its peak rates, memory size and memory bandwidth, as printed in its datasheet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from pytest_flopguard.core.errors import unknown_name
from pytest_flopguard.formulas.dtypes import dtype_name
from pytest_flopguard.formulas.sizes import positive

# 2:4 structured sparsity: two of four neighbouring weights are zero and are skipped.
SPARSE_SPEEDUP = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorCores:
    """The matrix units of a chip; ``multiply_adds`` is per unit and clock, at 16 bits with 32-bit accumulation."""

    sms: int
    per_sm: int
    multiply_adds: int
    clock_hz: int

    @property
    def flops_per_second(self) -> int:
        """Peak FLOP/s: 2 * SMs * tensor cores per SM * multiply-adds per clock * clock (1 multiply-add = 2 FLOPs)."""
        units = positive("SMs", self.sms) * positive("tensor cores per SM", self.per_sm)
        return 2 * units * positive("multiply-adds", self.multiply_adds) * positive("clock (Hz)", self.clock_hz)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One row of a datasheet: FLOP/s, bytes and bytes/s as exact integers.

    ``dense`` holds the dense peak of each dtype; ``float32`` is that of the plain cores, ``tf32`` that of the tensor
    cores, ``float64`` that of tensor cores where they have it, ``float16`` accumulates in 32 bits. ``sparse`` names
    the dtypes with twice the rate on 2:4 sparse weights.
    ``memory_bytes`` is the printed size in units of 10^9 bytes; a driver leaves somewhat less or more of it.
    """

    name: str
    dense: Mapping[str, int]
    memory_bytes: int
    bandwidth: int
    source: str
    sparse: tuple[str, ...] = ()
    tensor_cores: TensorCores | None = field(default=None)

    def peak(self, dtype: str, *, sparse: bool = False) -> int:
        """Peak FLOP/s of a dtype; UnknownNameError for one without a (sparse) peak. Dense unless asked otherwise."""
        name = dtype_name(dtype)
        known = self.sparse if sparse else tuple(self.dense)
        if name not in known:
            raise unknown_name(f"dtype with a {'sparse' if sparse else 'dense'} peak on {self.name}", dtype, known)
        return self.dense[name] * (SPARSE_SPEEDUP if sparse else 1)


def rates(**giga: int) -> Mapping[str, int]:
    """Return FLOP/s by dtype from GFLOP/s, so that a datasheet's 989.4 TFLOP/s is written ``bfloat16=989_400``."""
    return MappingProxyType({dtype_name(dtype): positive(dtype, rate) * 10**9 for dtype, rate in giga.items()})
