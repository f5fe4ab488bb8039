"""The roofline bound: work takes at least as long as its arithmetic, and at least as long as its memory traffic.

It bounds the FLOPs and bytes that it is given. An implementation that does less work can be faster.

Williams, Waterman and Patterson, "Roofline", CACM 52(4), 2009. FLOPs and bytes are exact integers; times are floats.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from pytest_flopguard.formulas.dtypes import dtype_bytes
from pytest_flopguard.formulas.hardware.datasheets import gpu
from pytest_flopguard.formulas.hardware.gpus import Gpu
from pytest_flopguard.formulas.sizes import positive, whole


@dataclass(frozen=True, slots=True, kw_only=True)
class Roofline:
    """Work of ``flops`` and ``moved`` bytes on hardware with a peak (FLOP/s) and a bandwidth (bytes/s)."""

    flops: int
    moved: int
    peak: int
    bandwidth: int

    def __post_init__(self) -> None:
        whole("FLOPs", self.flops)
        whole("bytes", self.moved)
        positive("peak (FLOP/s)", self.peak)
        positive("bandwidth (bytes/s)", self.bandwidth)

    @property
    def compute_seconds(self) -> float:
        """Time of the arithmetic alone: flops / peak."""
        return self.flops / self.peak

    @property
    def memory_seconds(self) -> float:
        """Time of the memory traffic alone: bytes / bandwidth."""
        return self.moved / self.bandwidth

    @property
    def seconds(self) -> float:
        """max(flops / peak, bytes / bandwidth): no run that does this work and moves these bytes is faster."""
        return max(self.compute_seconds, self.memory_seconds)

    @property
    def bound(self) -> Literal["compute", "memory"]:
        """What sets the time; ``compute`` on the ridge itself."""
        return "compute" if self.flops * self.bandwidth >= self.moved * self.peak else "memory"

    @property
    def intensity(self) -> Fraction | None:
        """FLOPs per byte, exact; None where no byte moves."""
        return Fraction(self.flops, self.moved) if self.moved else None

    @property
    def ridge(self) -> Fraction:
        """FLOPs per byte from which on arithmetic is what takes the time: peak / bandwidth."""
        return Fraction(self.peak, self.bandwidth)


def roofline(*, flops: int, moved: int, on: str | Gpu, dtype: str, gpus: int = 1, sparse: bool = False) -> Roofline:
    """Bound work that is split evenly over GPUs, communication left out; FLOPs and bytes are of all of them."""
    number, each = positive("GPUs", gpus), gpu(on)
    return Roofline(
        flops=flops, moved=moved, peak=number * each.peak(dtype, sparse=sparse), bandwidth=number * each.bandwidth
    )


def matmul_bytes(m: int, k: int, n: int, *, dtype: str, batch: int = 1) -> int:
    """Bytes of reading [M, K] and [K, N] and writing [M, N] once: (M*K + K*N + M*N) * size, times the batch."""
    rows, inner, columns = positive("m", m), positive("k", k), positive("n", n)
    return dtype_bytes(dtype, positive("batch", batch) * (rows * inner + inner * columns + rows * columns))


def matmul_roofline(
    m: int, k: int, n: int, *, on: str | Gpu, dtype: str, batch: int = 1, sparse: bool = False
) -> Roofline:
    """Bound of [M, K] @ [K, N]: 2*M*K*N FLOPs against ``matmul_bytes``."""
    moved = matmul_bytes(m, k, n, dtype=dtype, batch=batch)
    return roofline(flops=2 * batch * m * k * n, moved=moved, on=on, dtype=dtype, sparse=sparse)


def prefill(
    *, flops: int, weight_bytes: int, kv_bytes: int, on: str | Gpu, dtype: str, gpus: int = 1, sparse: bool = False
) -> Roofline:
    """Bound of reading prompts: all weights are read once and the KV cache of the prompts is written once.

    ``flops`` are those of the whole forward. Activations are taken to stay on the chip, so the bytes are a lower bound.
    """
    moved = whole("weight bytes", weight_bytes) + whole("KV cache bytes", kv_bytes)
    return roofline(flops=flops, moved=moved, on=on, dtype=dtype, gpus=gpus, sparse=sparse)


def decode(
    *,
    flops: int,
    weight_bytes: int,
    kv_bytes: int,
    on: str | Gpu,
    dtype: str,
    gpus: int = 1,
    batch: int = 1,
    sparse: bool = False,
) -> Roofline:
    """Bound of one step that makes one token for each of ``batch`` sequences.

    ``flops`` and ``kv_bytes`` are of one sequence; the weights are read once for all of them, which is why batches
    help: moved = weights + batch * KV cache. What is written for the new token is left out.
    """
    sequences = positive("batch", batch)
    moved = whole("weight bytes", weight_bytes) + sequences * whole("KV cache bytes", kv_bytes)
    total = sequences * whole("FLOPs", flops)
    return roofline(flops=total, moved=moved, on=on, dtype=dtype, gpus=gpus, sparse=sparse)
