"""Datasheet peaks of GPUs and TPUs: dense rates in GFLOP/s, memory in GB (10^9 bytes), bandwidth in GB/s.

A datasheet prints sparse rates where it says "with sparsity"; the rows hold the dense half of them. TensorCores are
given where the makers print SM counts and clocks; tests hold them to the 16-bit peak.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from pytest_flopguard.core.gpu_names import gpu_row
from pytest_flopguard.formulas.hardware.gpus import Gpu, TensorCores, rates

_GIGA = 10**9
_MEGA = 10**6
_AMPERE = ("tf32", "bfloat16", "float16", "int8", "int4")
_FP8 = ("tf32", "bfloat16", "float16", "float8", "int8")
_HOPPER = rates(
    float64=66_900, float32=66_900, tf32=494_700, bfloat16=989_400, float16=989_400, float8=1_978_900, int8=1_978_900
)
# The export versions keep the 16-bit rates; double precision is cut to 1 TFLOP/s.
_H800 = MappingProxyType({**_HOPPER, **rates(float64=1_000)})
_H100_CORES = TensorCores(sms=132, per_sm=4, multiply_adds=512, clock_hz=1_830 * _MEGA)
_A100 = rates(
    float64=19_500, float32=19_500, tf32=156_000, bfloat16=312_000, float16=312_000, int8=624_000, int4=1_248_000
)
_A100_CORES = TensorCores(sms=108, per_sm=4, multiply_adds=256, clock_hz=1_410 * _MEGA)
_V100_CORES = TensorCores(sms=80, per_sm=8, multiply_adds=64, clock_hz=1_530 * _MEGA)
_A100_SHEET = "NVIDIA A100 Tensor Core GPU datasheet, 2022; architecture whitepaper table 4 (SMs, clock)"
_H100_SHEET = "NVIDIA H100 Tensor Core GPU architecture whitepaper, table 2"
_V100_SHEET = "NVIDIA V100 Tensor Core GPU datasheet, 2020"
_BLACKWELL = "NVIDIA Blackwell architecture technical brief, table of systems"


def _row(
    name: str,
    memory: int,
    bandwidth: int,
    dense: Mapping[str, int],
    source: str,
    sparse: tuple[str, ...] = (),
    cores: TensorCores | None = None,
) -> Gpu:
    return Gpu(
        name=name,
        dense=dense,
        memory_bytes=memory * _GIGA,
        bandwidth=bandwidth * _GIGA,
        source=source,
        sparse=sparse,
        tensor_cores=cores,
    )


_ROWS = (
    _row("v100", 16, 900, rates(float64=7_800, float32=15_700, float16=125_000), _V100_SHEET, (), _V100_CORES),
    _row("v100-32gb", 32, 900, rates(float64=7_800, float32=15_700, float16=125_000), _V100_SHEET, (), _V100_CORES),
    _row("v100-pcie-16gb", 16, 900, rates(float64=7_000, float32=14_000, float16=112_000), _V100_SHEET),
    _row("v100-pcie-32gb", 32, 900, rates(float64=7_000, float32=14_000, float16=112_000), _V100_SHEET),
    _row(
        "t4",
        16,
        300,
        rates(float32=8_100, float16=65_000, int8=130_000, int4=260_000),
        "NVIDIA T4 datasheet, 2019",
        (),
        TensorCores(sms=40, per_sm=8, multiply_adds=64, clock_hz=1_590 * _MEGA),
    ),
    _row("a100-40gb", 40, 1_555, _A100, _A100_SHEET, _AMPERE, _A100_CORES),
    _row("a100-80gb", 80, 2_039, _A100, _A100_SHEET, _AMPERE, _A100_CORES),
    _row("a100-pcie-40gb", 40, 1_555, _A100, _A100_SHEET, _AMPERE, _A100_CORES),
    _row("a100-pcie-80gb", 80, 1_935, _A100, _A100_SHEET, _AMPERE, _A100_CORES),
    _row("a800", 80, 2_039, _A100, "NVIDIA A800 datasheet: an A100 with NVLink at 400 GB/s", _AMPERE),
    _row("a800-pcie", 80, 1_935, _A100, "NVIDIA A800 datasheet: an A100 with NVLink at 400 GB/s", _AMPERE),
    _row(
        "a30",
        24,
        933,
        rates(
            float64=10_300, float32=10_300, tf32=82_000, bfloat16=165_000, float16=165_000, int8=330_000, int4=661_000
        ),
        "NVIDIA A30 datasheet, 2022",
        _AMPERE,
        TensorCores(sms=56, per_sm=4, multiply_adds=256, clock_hz=1_440 * _MEGA),
    ),
    _row(
        "a10",
        24,
        600,
        rates(float32=31_200, tf32=62_500, bfloat16=125_000, float16=125_000, int8=250_000, int4=500_000),
        "NVIDIA A10 datasheet, 2021",
        _AMPERE,
        TensorCores(sms=72, per_sm=4, multiply_adds=128, clock_hz=1_695 * _MEGA),
    ),
    _row(
        "a10g",
        24,
        600,
        rates(float32=31_520, tf32=35_000, bfloat16=70_000, float16=70_000, int8=140_000, int4=280_000),
        "NVIDIA A10G datasheet, 2021 (printed by AWS)",
        _AMPERE,
        TensorCores(sms=80, per_sm=4, multiply_adds=64, clock_hz=1_710 * _MEGA),
    ),
    _row(
        "a40",
        48,
        696,
        rates(float32=37_400, tf32=74_800, bfloat16=149_700, float16=149_700, int8=299_300, int4=598_700),
        "NVIDIA A40 datasheet, 2022",
        _AMPERE,
        TensorCores(sms=84, per_sm=4, multiply_adds=128, clock_hz=1_740 * _MEGA),
    ),
    _row(
        "a6000",
        48,
        768,
        rates(float32=38_700, tf32=77_400, bfloat16=154_800, float16=154_800, int8=309_700, int4=619_300),
        "NVIDIA Ampere GA102 whitepaper, appendix B (RTX A6000)",
        _AMPERE,
        TensorCores(sms=84, per_sm=4, multiply_adds=128, clock_hz=1_800 * _MEGA),
    ),
    _row(
        "rtx3080",
        10,
        760,
        rates(float32=29_800, tf32=29_800, bfloat16=59_500, float16=59_500, int8=238_000, int4=476_000),
        "NVIDIA Ampere GA102 whitepaper, table 2 (10 GB); 16 bits with 32-bit accumulation",
        _AMPERE,
        TensorCores(sms=68, per_sm=4, multiply_adds=64, clock_hz=1_710 * _MEGA),
    ),
    _row(
        "rtx3090",
        24,
        936,
        rates(float32=35_600, tf32=35_600, bfloat16=71_000, float16=71_000, int8=284_000, int4=568_000),
        "NVIDIA Ampere GA102 whitepaper, appendix A; 16 bits with 32-bit accumulation",
        _AMPERE,
        TensorCores(sms=82, per_sm=4, multiply_adds=64, clock_hz=1_695 * _MEGA),
    ),
    _row(
        "rtx4080",
        16,
        717,
        rates(float32=48_700, tf32=48_700, bfloat16=97_500, float16=97_500, float8=194_900, int8=389_900, int4=779_800),
        "NVIDIA Ada whitepaper, appendix A (RTX 4080 16 GB); 16 and 8 bits with 32-bit accumulation",
        (*_FP8, "int4"),
        TensorCores(sms=76, per_sm=4, multiply_adds=64, clock_hz=2_505 * _MEGA),
    ),
    _row(
        "rtx4090",
        24,
        1_008,
        rates(
            float32=82_600,
            tf32=82_600,
            bfloat16=165_200,
            float16=165_200,
            float8=330_300,
            int8=660_600,
            int4=1_321_200,
        ),
        "NVIDIA Ada whitepaper, appendix A; 16 and 8 bits with 32-bit accumulation",
        (*_FP8, "int4"),
        TensorCores(sms=128, per_sm=4, multiply_adds=64, clock_hz=2_520 * _MEGA),
    ),
    _row(
        "l4",
        24,
        300,
        rates(float32=30_300, tf32=60_000, bfloat16=121_000, float16=121_000, float8=242_500, int8=242_500),
        "NVIDIA L4 datasheet, 2023; printed with sparsity",
        _FP8,
        TensorCores(sms=58, per_sm=4, multiply_adds=128, clock_hz=2_040 * _MEGA),
    ),
    _row(
        "l40",
        48,
        864,
        rates(float32=90_500, tf32=90_500, bfloat16=181_050, float16=181_050, float8=362_000, int8=362_000),
        "NVIDIA L40 datasheet, 2022",
        _FP8,
    ),
    _row(
        "l40s",
        48,
        864,
        rates(float32=91_600, tf32=183_000, bfloat16=362_050, float16=362_050, float8=733_000, int8=733_000),
        "NVIDIA L40S datasheet, 2023",
        _FP8,
    ),
    _row(
        "rtx6000-ada",
        48,
        960,
        rates(float32=91_100, tf32=182_100, bfloat16=364_200, float16=364_200, float8=728_500, int8=728_500),
        "NVIDIA Ada whitepaper, appendix B (RTX 6000 Ada)",
        _FP8,
        TensorCores(sms=142, per_sm=4, multiply_adds=128, clock_hz=2_505 * _MEGA),
    ),
    _row(
        "h100-nvl",
        94,
        3_900,
        rates(
            float64=60_000,
            float32=60_000,
            tf32=417_500,
            bfloat16=835_500,
            float16=835_500,
            float8=1_670_500,
            int8=1_670_500,
        ),
        "NVIDIA H100 datasheet, 2024 (H100 NVL); printed with sparsity",
        _FP8,
    ),
    _row(
        "h100-pcie",
        80,
        2_000,
        rates(
            float64=51_200,
            float32=51_200,
            tf32=378_000,
            bfloat16=756_000,
            float16=756_000,
            float8=1_513_000,
            int8=1_513_000,
        ),
        _H100_SHEET,
        _FP8,
        TensorCores(sms=114, per_sm=4, multiply_adds=512, clock_hz=1_620 * _MEGA),
    ),
    _row("h100", 80, 3_350, _HOPPER, _H100_SHEET, _FP8, _H100_CORES),
    _row("h800", 80, 3_350, _H800, "NVIDIA H800 datasheet: an H100 with NVLink at 400 GB/s", _FP8, _H100_CORES),
    _row("h200", 141, 4_800, _HOPPER, "NVIDIA H200 datasheet, 2024", _FP8, _H100_CORES),
    _row(
        "h20",
        96,
        4_000,
        rates(
            float64=1_000, float32=44_000, tf32=74_000, bfloat16=148_000, float16=148_000, float8=296_000, int8=296_000
        ),
        "NVIDIA H20 datasheet, 2023",
    ),
    _row("gh200", 96, 4_000, _HOPPER, "NVIDIA GH200 datasheet, 2024: an H100 with 96 GB of HBM3", _FP8, _H100_CORES),
    _row(
        "b200",
        180,
        8_000,
        rates(
            float64=40_000,
            float32=80_000,
            tf32=1_100_000,
            bfloat16=2_250_000,
            float16=2_250_000,
            float8=4_500_000,
            int8=4_500_000,
            float4=9_000_000,
        ),
        f"{_BLACKWELL}: HGX B200 at 1000 W; memory as DGX B200 prints it (1,440 GB of eight)",
        (*_FP8, "float4"),
    ),
    _row(
        "b300",
        288,
        8_000,
        rates(float64=1_250, float32=75_000, tf32=1_125_000, bfloat16=2_250_000, float16=2_250_000, float8=4_500_000),
        "NVIDIA HGX B300 specifications, an eighth of eight (2.3 TB of memory); printed with sparsity",
        ("tf32", "bfloat16", "float16", "float8"),
    ),
    _row(
        "rtx5080",
        16,
        960,
        rates(
            float32=56_300,
            tf32=56_300,
            bfloat16=112_600,
            float16=112_600,
            float8=225_100,
            int8=450_200,
            float4=900_400,
        ),
        "NVIDIA RTX Blackwell whitepaper, appendix A; 16 and 8 bits with 32-bit accumulation",
        (*_FP8, "float4"),
        TensorCores(sms=84, per_sm=4, multiply_adds=64, clock_hz=2_617 * _MEGA),
    ),
    _row(
        "rtx5090",
        32,
        1_792,
        rates(
            float32=104_800,
            tf32=104_800,
            bfloat16=209_500,
            float16=209_500,
            float8=419_000,
            int8=838_000,
            float4=1_676_000,
        ),
        "NVIDIA RTX Blackwell whitepaper, appendix A; 16 and 8 bits with 32-bit accumulation",
        (*_FP8, "float4"),
        TensorCores(sms=170, per_sm=4, multiply_adds=64, clock_hz=2_407 * _MEGA),
    ),
    _row("tpu-v4", 32, 1_200, rates(bfloat16=275_000, int8=275_000), "Google Cloud TPU v4 page; PaLM uses this peak"),
    _row("tpu-v5e", 16, 819, rates(bfloat16=197_000, int8=393_000), "Google Cloud TPU v5e page"),
    _row("tpu-v5p", 95, 2_765, rates(bfloat16=459_000, int8=918_000), "Google Cloud TPU v5p page"),
)

GPUS: Mapping[str, Gpu] = MappingProxyType({each.name: each for each in _ROWS})


def gpu(name: str | Gpu) -> Gpu:
    """Return a GPU by any spelling that ``core.gpu_names`` lists, or a custom Gpu as it is; there is no default.

    UnknownNameError names the nearest.
    """
    return name if isinstance(name, Gpu) else gpu_row("GPU", str(name), GPUS)
