from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_flopguard.core.errors import SizeError
from pytest_flopguard.formulas.hardware.roofline import (
    Roofline,
    decode,
    matmul_bytes,
    matmul_roofline,
    prefill,
    roofline,
)

LLAMA_2_70B = 68_976_648_192


def test_ridge_points() -> None:
    # 312e12 / 2.039e12 = 153.0 and 989.4e12 / 3.35e12 = 295.3 FLOPs per byte.
    assert float(roofline(flops=1, moved=1, on="a100", dtype="bf16").ridge) == pytest.approx(153.0, abs=0.05)
    assert float(roofline(flops=1, moved=1, on="h100", dtype="bf16").ridge) == pytest.approx(295.3, abs=0.05)


def test_the_ridge_itself_is_bound_by_compute() -> None:
    on_it = Roofline(flops=40, moved=10, peak=4, bandwidth=1)
    assert (on_it.bound, on_it.seconds, on_it.intensity) == ("compute", 10.0, Fraction(4))
    below = Roofline(flops=39, moved=10, peak=4, bandwidth=1)
    assert (below.bound, below.seconds) == ("memory", 10.0)
    above = Roofline(flops=41, moved=10, peak=4, bandwidth=1)
    assert (above.bound, above.seconds) == ("compute", 10.25)


def test_work_without_traffic() -> None:
    found = Roofline(flops=8, moved=0, peak=4, bandwidth=1)
    assert (found.bound, found.seconds, found.intensity) == ("compute", 2.0, None)


def test_a_matrix_product() -> None:
    # (4096*4096 * 3) elements of 2 bytes; 2*4096^3 FLOPs: 1365 FLOPs per byte.
    assert matmul_bytes(4096, 4096, 4096, dtype="bf16") == 2 * 3 * 4096**2
    square = matmul_roofline(4096, 4096, 4096, on="a100", dtype="bf16")
    assert square.flops == 2 * 4096**3
    assert square.intensity == Fraction(4096, 3)
    assert square.bound == "compute"
    # One row: 2*4096^2 FLOPs over (4096^2 + 2*4096) * 2 bytes, about one FLOP per byte.
    row = matmul_roofline(1, 4096, 4096, on="a100", dtype="bf16")
    assert row.bound == "memory"
    assert float(row.intensity or 0) == pytest.approx(1.0, rel=0.001)
    assert matmul_roofline(1, 4096, 4096, on="a100", dtype="bf16", batch=3).flops == 3 * row.flops


def test_prefill_of_source_e() -> None:
    """Analysis of Llama 3, question 3: 16 prompts of 4000 tokens on 8 A800.

    FLOPs of Llama-2-70B's matrices (all parameters but the embedding) with causal attention, 2*L*s*h a token:
    16*4000 * (2*(68,976,648,192 - 32000*8192) + 2*80*4000*8192) = 9.13e15, 3.66 s at the peak, 4.57 s at 80 % of it:
    the 600-700 ms asked about is out of reach.
    """
    per_token = 2 * (LLAMA_2_70B - 32_000 * 8192) + 2 * 80 * 4000 * 8192
    flops = 16 * 4000 * per_token
    assert flops / 1e15 == pytest.approx(9.13, abs=0.005)
    kv = 16 * 4000 * 327_680
    found = prefill(flops=flops, weight_bytes=2 * LLAMA_2_70B, kv_bytes=kv, on="a800", dtype="fp16", gpus=8)
    assert found.bound == "compute"
    assert found.seconds == pytest.approx(3.66, abs=0.005)
    assert found.seconds / 0.8 == pytest.approx(4.57, abs=0.005)
    assert found.seconds > 5 * 0.7


def test_decode_is_bound_by_memory_until_the_batch_is_large() -> None:
    # One token reads all weights: 2N FLOPs over 2N bytes, intensity 1 against a ridge of 153.
    one = decode(flops=2 * LLAMA_2_70B, weight_bytes=2 * LLAMA_2_70B, kv_bytes=0, on="a800", dtype="fp16", gpus=8)
    assert (one.intensity, one.bound) == (Fraction(1), "memory")
    assert one.seconds == pytest.approx(2 * LLAMA_2_70B / (8 * 2.039e12))
    # Without a cache the batch is the intensity: 153 sequences are still bound by memory, 154 are not.
    bounds = {
        batch: decode(
            flops=2 * LLAMA_2_70B,
            weight_bytes=2 * LLAMA_2_70B,
            kv_bytes=0,
            on="a800",
            dtype="fp16",
            gpus=8,
            batch=batch,
        ).bound
        for batch in (153, 154)
    }
    assert bounds == {153: "memory", 154: "compute"}


def test_more_devices_are_faster_in_both() -> None:
    one = roofline(flops=10**15, moved=10**12, on="h100", dtype="bf16")
    eight = roofline(flops=10**15, moved=10**12, on="h100", dtype="bf16", gpus=8)
    assert eight.compute_seconds == pytest.approx(one.compute_seconds / 8)
    assert eight.memory_seconds == pytest.approx(one.memory_seconds / 8)
    sparse = roofline(flops=10**15, moved=10**12, on="h100", dtype="bf16", sparse=True)
    assert sparse.compute_seconds == pytest.approx(one.compute_seconds / 2)


@given(
    flops=st.integers(0, 10**20),
    moved=st.integers(0, 10**15),
    peak=st.integers(1, 10**16),
    bandwidth=st.integers(1, 10**13),
)
def test_the_bound_is_the_slower_of_both(flops: int, moved: int, peak: int, bandwidth: int) -> None:
    found = Roofline(flops=flops, moved=moved, peak=peak, bandwidth=bandwidth)
    assert found.seconds >= found.compute_seconds
    assert found.seconds >= found.memory_seconds
    if found.intensity is not None:
        assert (found.bound == "compute") == (found.intensity >= found.ridge)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"flops": -1}, "FLOPs = -1"),
        ({"flops": 1.5}, "FLOPs = 1.5"),
        ({"moved": -1}, "bytes = -1"),
        ({"gpus": 0}, "GPUs = 0"),
    ],
)
def test_bad_sizes(changes: dict[str, object], told: str) -> None:
    with pytest.raises(SizeError, match=told):
        roofline(**{"flops": 1, "moved": 1, "on": "h100", "dtype": "bf16", **changes})
