"""The CUDA caching allocator's own figures: bytes in blocks that tensors hold, asked for, and reserved.

``peak_bytes`` is the allocator's ``allocated_bytes.all``: blocks as it hands them out, so tensor sizes rounded up,
and library workspaces that come from it (cuBLAS). The bytes that were asked for, and what it reserved from the
driver, stand beside it. What the driver itself holds (contexts, kernels, NCCL) no figure shows.
"""

from __future__ import annotations

import gc
import os

import torch

from pytest_flopguard.backends.base import Unavailable
from pytest_flopguard.backends.nested_peaks import NestedPeaks, Reading, Span
from pytest_flopguard.core.measurement import MemoryPeak

_FIGURES = ("allocated", "requested", "reserved")


class CudaMemory:
    """The MemoryBackend for CUDA devices. It starts no CUDA context: a device counts from its first use."""

    name = "cuda-allocator"

    def __init__(self) -> None:
        self._regions = NestedPeaks()

    @staticmethod
    def create() -> CudaMemory | Unavailable:
        """Return a backend, or why there is none here."""
        reason = _unusable()
        return CudaMemory() if reason is None else Unavailable(name=CudaMemory.name, reason=reason)

    def __enter__(self) -> CudaMemory:
        self._regions.clear()
        return self

    def __exit__(self, *exc: object) -> None:
        self._regions.clear()

    def begin(self) -> Span:
        """Open a region: later peaks are its own, earlier ones are kept for the regions around it."""
        if not self._regions and torch.cuda.is_initialized():
            # Garbage of former tests would be freed at some time during this one. Not for inner regions: there it
            # would lower the peak of the test that is measured.
            gc.collect()
        readings = _readings()
        span = self._regions.open({} if isinstance(readings, str) else readings)
        if not isinstance(readings, str):
            for device in readings:
                torch.cuda.reset_peak_memory_stats(device)
        return span

    def end(self, span: Span) -> tuple[MemoryPeak, ...] | Unavailable:
        """Close a region: one peak for each device on which tensors held memory."""
        readings = _readings()
        if isinstance(readings, str):
            self._regions.close(span, {})
            return Unavailable(name=self.name, reason=readings)
        self._regions.close(span, readings)
        return tuple(_peak(device, span) for device in sorted(readings) if span.peak[device]["allocated"])


def _unusable() -> str | None:
    if torch.version.hip is not None:
        return "torch was built for ROCm, whose allocator figures have not been tried"
    if torch.version.cuda is None:
        return "torch was built without CUDA"
    if not torch.cuda.is_available():
        return "no CUDA device is visible"
    if "PYTORCH_NO_CUDA_MEMORY_CACHING" in os.environ:
        return "PYTORCH_NO_CUDA_MEMORY_CACHING turns the caching allocator off, and with it its figures"
    if torch.cuda.get_allocator_backend() != "native":
        return f"the {torch.cuda.get_allocator_backend()} allocator does not keep all figures"
    return None


def _readings() -> dict[int, Reading] | str:
    """Read every device, nothing before the process has used CUDA; or tell how CUDA failed."""
    if not torch.cuda.is_initialized():
        return {}
    try:
        return {device: _reading(device) for device in range(torch.cuda.device_count())}
    except RuntimeError as error:
        # After a kernel fault every call fails. The test's own error is the one to show, and it still propagates.
        return f"CUDA failed: {str(error).partition(chr(10))[0]}"


def _reading(device: int) -> Reading:
    if torch.cuda.memory_reserved(device):
        # Blocks that a side stream used come back when it is done. A device that nobody used is left without context.
        torch.cuda.synchronize(device)
    stats = torch.cuda.memory_stats(device)
    return Reading(
        current={figure: stats[f"{figure}_bytes.all.current"] for figure in _FIGURES},
        peak={figure: stats[f"{figure}_bytes.all.peak"] for figure in _FIGURES},
    )


def _peak(device: int, span: Span) -> MemoryPeak:
    major, minor = torch.cuda.get_device_capability(device)
    start, peak = span.start.get(device, dict.fromkeys(_FIGURES, 0)), span.peak[device]
    return MemoryPeak(
        device=f"cuda:sm{major}{minor}",
        index=device,
        backend=CudaMemory.name,
        start_bytes=start["allocated"],
        peak_bytes=peak["allocated"],
        detail={
            "requested_peak_bytes": peak["requested"],
            "reserved_peak_bytes": peak["reserved"],
            "reserved_start_bytes": start["reserved"],
        },
    )
