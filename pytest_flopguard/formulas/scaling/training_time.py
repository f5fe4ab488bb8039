"""How long work takes on some GPUs, and how much of their peak it uses. Times and rates are floats.

Peaks are per GPU in FLOP/s, dense unless the caller says otherwise (``hardware.datasheets.gpu(name).peak(dtype)``).
"""

from __future__ import annotations

from pytest_flopguard.formulas.rates import above_zero, share
from pytest_flopguard.formulas.sizes import positive, whole

SECONDS_PER_HOUR = 3600
SECONDS_PER_DAY = 24 * SECONDS_PER_HOUR


def training_seconds(compute: int, *, gpus: int, peak: int, mfu: float) -> float:
    """C / (GPUs * peak * MFU) seconds."""
    rate = positive("GPUs", gpus) * positive("peak (FLOP/s)", peak) * share("MFU", mfu)
    return whole("compute", compute) / rate


def training_days(compute: int, *, gpus: int, peak: int, mfu: float) -> float:
    """``training_seconds`` in days of 86,400 seconds."""
    return training_seconds(compute, gpus=gpus, peak=peak, mfu=mfu) / SECONDS_PER_DAY


def gpu_hours(compute: int, *, peak: int, mfu: float) -> float:
    """C / (peak * MFU) in hours of one GPU."""
    return training_seconds(compute, gpus=1, peak=peak, mfu=mfu) / SECONDS_PER_HOUR


def tokens_per_second(flops_per_token: int, *, gpus: int, peak: int, mfu: float) -> float:
    """GPUs * peak * MFU / (FLOPs per token)."""
    return 1 / training_seconds(positive("FLOPs per token", flops_per_token), gpus=gpus, peak=peak, mfu=mfu)


def utilization(flops: int, *, seconds: float, gpus: int, peak: int) -> float:
    """Share of the peak that some FLOPs in some time are: FLOPs / (seconds * GPUs * peak).

    MFU (model FLOPs utilisation) with the FLOPs that the model asks for, HFU (hardware) with recomputed ones too.
    More than 1 is not refused: it tells that a number that went in is wrong. Chowdhery et al. 2022 (arXiv 2204.02311),
    appendix B.
    """
    available = above_zero("seconds", seconds) * positive("GPUs", gpus) * positive("peak (FLOP/s)", peak)
    return whole("FLOPs", flops) / available


def utilization_from_rate(flops_per_token: int, *, tokens_per_second: float, gpus: int, peak: int) -> float:
    """MFU from observed throughput: tokens/s * FLOPs per token / (GPUs * peak)."""
    seconds_per_token = 1 / above_zero("tokens per second", tokens_per_second)
    return utilization(flops_per_token, seconds=seconds_per_token, gpus=gpus, peak=peak)


def utilization_from_gpu_hours(compute: int, *, hours: float, peak: int) -> float:
    """MFU from GPU-hours of a whole run: C / (hours * 3600 * peak)."""
    return utilization(compute, seconds=above_zero("GPU-hours", hours) * SECONDS_PER_HOUR, gpus=1, peak=peak)
