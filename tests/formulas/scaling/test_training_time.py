from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_flopguard.core.errors import SizeError
from pytest_flopguard.formulas.architectures.decoder_sizes import DecoderSizes
from pytest_flopguard.formulas.architectures.transformer import decoder
from pytest_flopguard.formulas.hardware.datasheets import gpu
from pytest_flopguard.formulas.published import palm
from pytest_flopguard.formulas.scaling.compute import training_compute
from pytest_flopguard.formulas.scaling.training_time import (
    gpu_hours,
    tokens_per_second,
    training_days,
    training_seconds,
    utilization,
    utilization_from_gpu_hours,
    utilization_from_rate,
)

A100 = gpu("a100").peak("bf16")
H100 = gpu("h100").peak("bf16")
LLAMA_3_70B = DecoderSizes(
    width=8192, layers=80, heads=64, kv_heads=8, ff=28672, vocab=128256, gated=True, name="Llama-3-70B"
)


def test_gpt_4_in_98_67_days() -> None:
    """A guide to scaling laws: 1.7T parameters, 13T tokens, 25,000 A100: 98.67 days.

    That takes the sparse peak, 624 TFLOP/s, at 100 %, and all experts' parameters. At the dense peak it is 197 days.
    With about 280B active parameters it is 2.18e25 FLOPs: 95 days at 34 % of the dense peak.
    """
    work = training_compute(1_700 * 10**9, 13_000 * 10**9)
    sparse = gpu("a100").peak("bf16", sparse=True)
    # Printed from a peak of 624 and 1.33e26 FLOPs: half a percent.
    assert training_days(work, gpus=25_000, peak=sparse, mfu=1.0) == pytest.approx(98.67, rel=0.005)
    assert training_days(work, gpus=25_000, peak=A100, mfu=1.0) == pytest.approx(197, abs=0.5)
    active = training_compute(280 * 10**9, 13_000 * 10**9)
    assert active == pytest.approx(2.18e25, rel=0.003)
    assert training_days(active, gpus=25_000, peak=A100, mfu=0.34) == pytest.approx(95, abs=0.5)


def test_llama_3_70b_over_its_gpu_hours() -> None:
    """Analysis of Llama 3, question 1: 15T tokens in 6.4M H100-hours.

    MFU 27.9 % by 6N, 30.0 % with causal and 32.1 % with dense attention of 8192 tokens added to it.
    """
    tokens, n = 15 * 10**12, 70_553_706_496
    per_sequence = {
        kind: sum(
            3 * flops
            for name, flops in decoder(LLAMA_3_70B, seq=8192, attention=kind).by_name().items()
            if name in ("attention_scores", "attention_values")
        )
        for kind in ("causal", "dense")
    }
    work = [6 * n * tokens] + [6 * n * tokens + per_sequence[kind] * tokens // 8192 for kind in per_sequence]
    found = [100 * utilization_from_gpu_hours(each, hours=6.4e6, peak=H100) for each in work]
    assert found == pytest.approx([27.9, 30.0, 32.1], abs=0.06)


# Llama 2's report: A100-hours, 2T tokens; MFU by 6N. 34B was not released.
@pytest.mark.parametrize(
    ("parameters", "hours", "mfu"),
    [(6_738_415_616, 184_320, 39.1), (13_015_864_320, 368_640, 37.7), (68_976_648_192, 1_720_320, 42.8)],
)
def test_llama_2(parameters: int, hours: int, mfu: float) -> None:
    work = training_compute(parameters, 2 * 10**12)
    assert 100 * utilization_from_gpu_hours(work, hours=hours, peak=A100) == pytest.approx(mfu, abs=0.06)
    assert gpu_hours(work, peak=A100, mfu=mfu / 100) == pytest.approx(hours, rel=0.002)


def test_llama_2_in_all() -> None:
    # Its table's sum: 3,311,616 hours.
    assert 184_320 + 368_640 + 1_038_336 + 1_720_320 == 3_311_616


def test_llama_1_65b() -> None:
    # 380 tokens/s on each of 2048 A100: "21 days" for 1.4T (20.8), 47.6 % by 6N and 49.6 % with dense attention.
    # Its 1,022,362 A100-hours are those 20.8 days.
    days = 1.4e12 / (380 * 2048) / 86_400
    assert days == pytest.approx(20.8, abs=0.05)
    assert 2048 * 24 * days == pytest.approx(1_022_362, rel=0.002)
    n = 65_285_660_672
    dense = palm.token_flops(n, layers=80, heads=64, head_size=128, sequence=2048)
    found = [100 * utilization_from_rate(each, tokens_per_second=380, gpus=1, peak=A100) for each in (6 * n, dense)]
    # Tokens per second are rounded to tens.
    assert found == pytest.approx([47.6, 49.6], rel=0.005)


# Llama 3's report, table 4: TFLOP/s per GPU, rounded to tens, and MFU in whole percent.
@pytest.mark.parametrize(("tflops", "mfu"), [(430, 43), (400, 41), (380, 38)])
def test_llama_3_1_405b(tflops: int, mfu: int) -> None:
    found = 100 * utilization(tflops * 10**12, seconds=1.0, gpus=1, peak=H100)
    assert found == pytest.approx(mfu, abs=0.5 + 100 * 5e12 / H100)


def test_deepseek_v3_in_the_scaling_book() -> None:
    # 37B active, 14.8T tokens, 2.79M H800-hours at the dense FP8 peak of a PCIe card, 1513 TFLOP/s: 21.7 %.
    work = training_compute(37 * 10**9, 14_800 * 10**9)
    peak = gpu("h100-pcie").peak("fp8")
    assert 100 * utilization_from_gpu_hours(work, hours=2.79e6, peak=peak) == pytest.approx(21.7, abs=0.15)


def test_where_attention_dominates_in_the_scaling_book() -> None:
    # Gated MLP of 4D, dense: attention's 12*T*D and all other products' 96*D^2 meet at T = 8D.
    sizes = DecoderSizes(width=64, layers=2, heads=4, ff=256, vocab=10, gated=True)
    shares = {}
    for sequence in (8 * 64 - 1, 8 * 64, 8 * 64 + 1):
        parts = decoder(sizes, seq=sequence).by_name()
        core = parts["attention_scores"] + parts["attention_values"]
        shares[sequence] = core - (sum(parts.values()) - core - parts["lm_head"])
    assert shares[511] < 0 == shares[512] < shares[513]


def test_time_by_hand() -> None:
    # 1e18 / (10 * 1e15 * 0.5) = 200 s
    options = {"peak": 10**15, "mfu": 0.5}
    assert training_seconds(10**18, gpus=10, **options) == 200.0
    assert training_days(86_400 * 10**15, gpus=1, peak=10**15, mfu=1.0) == 1.0
    assert gpu_hours(3600 * 10**15, **options) == 2.0
    assert tokens_per_second(5 * 10**12, gpus=10, **options) == pytest.approx(1000.0)


@given(
    flops=st.integers(1, 10**28),
    gpus=st.integers(1, 10**6),
    peak=st.integers(1, 10**16),
    mfu=st.floats(0.001, 1.0),
)
def test_time_and_utilisation_are_inverse(flops: int, gpus: int, peak: int, mfu: float) -> None:
    seconds = training_seconds(flops, gpus=gpus, peak=peak, mfu=mfu)
    assert utilization(flops, seconds=seconds, gpus=gpus, peak=peak) == pytest.approx(mfu)
    rate = tokens_per_second(flops, gpus=gpus, peak=peak, mfu=mfu)
    assert utilization_from_rate(flops, tokens_per_second=rate, gpus=gpus, peak=peak) == pytest.approx(mfu)


def test_more_than_the_peak_is_told_and_not_hidden() -> None:
    assert utilization(2, seconds=1.0, gpus=1, peak=1) == 2.0


@pytest.mark.parametrize("mfu", [0, -0.1, 1.01, 40, math.nan, math.inf, True, "0.4"])
def test_a_share_of_the_peak(mfu: object) -> None:
    with pytest.raises(SizeError, match="MFU = "):
        training_seconds(1, gpus=1, peak=1, mfu=mfu)  # type: ignore[arg-type]


def test_the_whole_peak_is_a_share() -> None:
    assert training_seconds(10, gpus=1, peak=10, mfu=1) == 1.0


@pytest.mark.parametrize(
    ("changes", "told"),
    [({"gpus": 0}, "GPUs = 0"), ({"peak": 1.5e15}, r"peak \(FLOP/s\) = "), ({"seconds": 0.0}, r"seconds = 0\.0")],
)
def test_bad_sizes(changes: dict[str, object], told: str) -> None:
    with pytest.raises(SizeError, match=told):
        utilization(1, **{"seconds": 1.0, "gpus": 1, "peak": 1, **changes})  # type: ignore[arg-type]
