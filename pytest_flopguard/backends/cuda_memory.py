"""The CUDA caching allocator's own figures: bytes in blocks that tensors hold, asked for, and reserved.

``peak_bytes`` is the allocator's ``allocated_bytes.all``: blocks as it hands them out, so tensor sizes rounded up,
and library workspaces that come from it (cuBLAS). The bytes that were asked for, what it reserved from the driver, and
what the device holds beside that stand in ``detail``. Where lines of code are recorded, so is the allocator's history,
which tells whose the bytes at the peak are.
"""

from __future__ import annotations

import gc
import os
from pathlib import Path
from typing import Any

import torch

from pytest_flopguard.backends.base import Unavailable
from pytest_flopguard.backends.cuda_history import HistoryPeak
from pytest_flopguard.backends.cuda_snapshot import file_name, write_snapshot
from pytest_flopguard.backends.cuda_trace import CudaTrace, Start
from pytest_flopguard.backends.cuda_warm_up import warm_up
from pytest_flopguard.backends.live_storage import LiveStorage
from pytest_flopguard.backends.nested_peaks import NestedPeaks, Reading, Span
from pytest_flopguard.backends.op_watch import OpWatch
from pytest_flopguard.core.measurement import CATEGORIES, MemoryPeak
from pytest_flopguard.core.owners import summed

_FIGURES = ("allocated", "requested", "reserved")


class CudaRegion:
    """An open region: the allocator's figures, those of the driver, and where the recorded history was."""

    def __init__(self, span: Span, outside: dict[int, int], start: Start | None) -> None:
        self.span = span
        self.outside = outside
        self.start = start


class CudaMemory:
    """The MemoryBackend for CUDA devices. It starts no CUDA context: a device counts from its first use.

    With ``warms_up``, libraries take their workspaces and handles before the first region of the process, which does
    start one.
    """

    name = "cuda-allocator"

    def __init__(self, watch: OpWatch | None = None) -> None:
        self.warms_up = False
        self._watch = watch
        self._warm = False
        self._root: Path | None = None
        self._trace: CudaTrace | None = None
        self._snapshot: dict[str, Any] | None = None
        self._regions = NestedPeaks()

    @staticmethod
    def create(watch: OpWatch | None = None) -> CudaMemory | Unavailable:
        """Return a backend, or why there is none here; ``watch`` sees the op calls, where there is one."""
        reason = _unusable()
        return CudaMemory(watch) if reason is None else Unavailable(name=CudaMemory.name, reason=reason)

    def __enter__(self) -> CudaMemory:
        self._regions.clear()
        self._snapshot = None
        return self

    def __exit__(self, *exc: object) -> None:
        self._regions.clear()
        self._record(None)

    def record_sites(self, root: Path | None) -> None:
        """From now on tell whose the bytes at the peak are, paths as seen from a folder; None stops it."""
        self._root = root

    def keep_snapshot(self, folder: Path, nodeid: str) -> Path | None:
        """Write what the allocator recorded in the last region for PyTorch's memory viewer; None if nothing was."""
        path = folder / file_name(nodeid)
        return path if self._snapshot is not None and write_snapshot(self._snapshot, path) else None

    def begin(self) -> CudaRegion:
        """Open a region: later peaks are its own, earlier ones are kept for the regions around it."""
        if not self._regions:
            if self.warms_up and not self._warm:
                self._warm = True
                warm_up(self._watch)
            if torch.cuda.is_initialized():
                # Garbage of former tests would be freed at some time during this one. Not for inner regions: there it
                # would lower the peak of the test that is measured.
                gc.collect()
        if self._root is not None and self._trace is None:
            self._record(self._root)
        readings = _readings()
        span = self._regions.open({} if isinstance(readings, str) else readings)
        start, outside = None, {}
        if not isinstance(readings, str):
            start = self._trace.start() if self._trace is not None else None
            outside = _outside(readings)
            for device in readings:
                torch.cuda.reset_peak_memory_stats(device)
        return CudaRegion(span, outside, start)

    def end(self, region: CudaRegion) -> tuple[MemoryPeak, ...] | Unavailable:
        """Close a region: one peak for each device on which tensors held memory."""
        readings = _readings()
        if isinstance(readings, str):
            self._regions.close(region.span, {})
            return Unavailable(name=self.name, reason=readings)
        span = self._regions.close(region.span, readings)
        if self._trace is not None:
            self._trace.take_snapshot()
            self._snapshot = self._trace.snapshot
        outside = _outside(readings)
        return tuple(
            self._peak(device, region, outside.get(device, 0))
            for device in sorted(readings)
            if span.peak[device]["allocated"]
        )

    def _record(self, root: Path | None) -> None:
        followed: object = None if self._watch is None else self._watch.storages
        if self._trace is not None:
            self._trace.stop()
        self._trace = None if root is None else CudaTrace(root)
        if isinstance(followed, LiveStorage):
            followed.tell_blocks(self._trace)

    def _peak(self, device: int, region: CudaRegion, outside: int) -> MemoryPeak:
        major, minor = torch.cuda.get_device_capability(device)
        start = region.span.start.get(device, dict.fromkeys(_FIGURES, 0))
        peak = region.span.peak[device]
        detail = {
            "requested_peak_bytes": peak["requested"],
            "reserved_peak_bytes": peak["reserved"],
            "reserved_start_bytes": start["reserved"],
            "outside_allocator_start_bytes": region.outside.get(device, 0),
            "outside_allocator_end_bytes": outside,
        }
        told: dict[str, Any] = {}
        history = None if self._trace is None else self._trace.peak(device, region.start)
        if self._trace is not None and history is not None:
            owners = self._trace.owners(device, history, peak["allocated"])
            told["owners"] = owners
            if owners:
                by_category = summed(owners, lambda owner: owner.category)
                told["by_category"] = dict.fromkeys(CATEGORIES, 0) | by_category
                told["timeline"] = raised(history, peak["allocated"])
                by_stream = history.by_stream()
                if len(by_stream) > 1:
                    detail |= {f"stream_{stream}_at_peak_bytes": size for stream, size in by_stream.items()}
        return MemoryPeak(
            device=f"cuda:sm{major}{minor}",
            index=device,
            backend=CudaMemory.name,
            start_bytes=start["allocated"],
            peak_bytes=peak["allocated"],
            detail=detail,
            **told,
        )


def raised(history: HistoryPeak, peak_bytes: int) -> tuple[tuple[int, int], ...]:
    """Return a history's bytes over time; its highest points are set to the measured peak, which includes tails."""
    return tuple((tick, peak_bytes if size == history.bytes else size) for tick, size in history.timeline)


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


def _outside(readings: dict[int, Reading]) -> dict[int, int]:
    """Return what devices hold that is not the allocator's: the driver's, libraries', and that of other processes."""
    found = {}
    for device, reading in readings.items():
        if reading.current["reserved"]:  # asking would give a context to a device that nobody used
            free, total = torch.cuda.mem_get_info(device)
            found[device] = total - free - reading.current["reserved"]
    return found
