from __future__ import annotations

import re

import pytest

from pytest_flopguard.core.errors import SizeError, UnknownNameError
from pytest_flopguard.formulas.hardware.datasheets import GPUS, gpu
from pytest_flopguard.formulas.hardware.gpus import Gpu, TensorCores, rates

# TFLOP/s as the datasheets print them (Tensor Core rows): GPU, dtype, dense, sparse.
# H100, L4: the sheets print sparse rates only, 1,979 and 242 at 16 bits; the whitepapers print both.
PRINTED = [
    ("a100-sxm-80gb", "tf32", 156, 312),
    ("a100-sxm-80gb", "bf16", 312, 624),
    ("a100-sxm-80gb", "int8", 624, 1248),
    ("a800-sxm-80gb", "bf16", 312, 624),
    ("h100-sxm", "tf32", 494.7, 989.4),
    ("h100-sxm", "bf16", 989.4, 1979),
    ("h100-sxm", "fp8", 1979, 3958),
    ("h800-sxm", "bf16", 989.4, 1979),
    ("h200-sxm", "bf16", 989.4, 1979),
    ("h100-pcie", "bf16", 756, 1513),
    ("h100-pcie", "fp8", 1513, 3026),
    ("b200-sxm", "bf16", 2250, 4500),
    ("b200-sxm", "fp8", 4500, 9000),
    ("l4", "bf16", 121, 242),
    ("l4", "fp8", 242, 485),
    ("l40s", "bf16", 362.05, 733),
    ("a10", "bf16", 125, 250),
    ("rtx3090", "bf16", 71, 142),
    ("rtx4090", "bf16", 165.2, 330.4),
    # RTX Blackwell whitepaper, appendix A, 32-bit accumulation: FP16 209.5 and 419, FP8 419 and 838.
    ("rtx5090", "bf16", 209.5, 419),
    ("rtx5090", "fp8", 419, 838),
    ("a6000", "bf16", 154.8, 309.7),
    ("h100-nvl", "bf16", 835.5, 1671),
]


@pytest.mark.parametrize(("name", "dtype", "dense", "sparse"), PRINTED)
def test_printed_peaks(name: str, dtype: str, dense: float, sparse: float) -> None:
    # Sheets round to whole TFLOP/s; L40S's sparse 733 stands beside a dense 362.05, 1.2 % apart.
    assert gpu(name).peak(dtype) / 1e12 == pytest.approx(dense, rel=0.003)
    assert gpu(name).peak(dtype, sparse=True) / 1e12 == pytest.approx(sparse, rel=0.013)


@pytest.mark.parametrize("name", [name for name, each in GPUS.items() if each.tensor_cores])
def test_the_peak_follows_from_the_chip(name: str) -> None:
    # 2 * SMs * tensor cores * multiply-adds * clock; sheets round to three digits: 125 for V100's 125.3.
    each = gpu(name)
    assert each.tensor_cores is not None
    assert each.tensor_cores.flops_per_second == pytest.approx(each.peak("float16"), rel=0.003)


def test_the_a100_by_hand() -> None:
    # A systems engineer's analysis of Llama 3: 2 * (8*4*8) * 4 * 108 * 1410 MHz = 311.87 TFLOP/s.
    cores = TensorCores(sms=108, per_sm=4, multiply_adds=8 * 4 * 8, clock_hz=1_410_000_000)
    assert cores.flops_per_second == 311_869_440_000_000


def test_a_chip_without_clock_is_an_error() -> None:
    with pytest.raises(SizeError, match=r"clock \(Hz\) = 0"):
        _ = TensorCores(sms=108, per_sm=4, multiply_adds=256, clock_hz=0).flops_per_second


@pytest.mark.parametrize("name", GPUS)
def test_every_row_is_sound(name: str) -> None:
    each = GPUS[name]
    assert each.name == name
    assert each.source
    assert set(each.sparse) <= set(each.dense)
    numbers = [*each.dense.values(), each.memory_bytes, each.bandwidth]
    assert all(type(number) is int and number > 0 for number in numbers)
    # No chip is slower on narrower numbers of one kind.
    floats = [each.dense[kind] for kind in ("float64", "float32", "tf32", "float16", "float8") if kind in each.dense]
    assert floats == sorted(floats)


def test_an_unknown_gpu_names_the_nearest_and_has_no_default() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown GPU 'h100-sx'; .*did you mean 'h100-sxm'\? \[unknown-name\]"):
        gpu("h100-sx")


@pytest.mark.parametrize(
    ("name", "dtype", "sparse", "kind"),
    [
        ("v100-sxm-32gb", "bfloat16", False, "dense"),
        ("a100", "float8", False, "dense"),
        ("v100-sxm-32gb", "float16", True, "sparse"),
        ("a100", "float32", True, "sparse"),
    ],
)
def test_a_dtype_without_a_peak_is_an_error(name: str, dtype: str, sparse: bool, kind: str) -> None:
    with pytest.raises(UnknownNameError, match=re.escape(f"dtype with a {kind} peak on {gpu(name).name} {dtype!r}")):
        gpu(name).peak(dtype, sparse=sparse)


def test_a_gpu_of_ones_own() -> None:
    mine = Gpu(name="mine", dense=rates(bf16=500_000), memory_bytes=64 * 10**9, bandwidth=10**12, source="here")
    assert gpu(mine) is mine
    assert gpu(mine).peak("bfloat16") == 500 * 10**12
