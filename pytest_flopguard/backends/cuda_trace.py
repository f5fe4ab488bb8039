"""Records what a CUDA peak was made of: the allocator's history, and beside it what op calls showed of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch

from pytest_flopguard.backends.code_sites import CodeSites
from pytest_flopguard.backends.cuda_history import Block, HistoryPeak, history_peak, resting
from pytest_flopguard.backends.cuda_owners import Ran, Shown, owners_of
from pytest_flopguard.backends.storage_roles import Role
from pytest_flopguard.backends.torch_api.cuda import history_is_recorded, record_history, snapshot
from pytest_flopguard.core.owners import Owner


class Followed(Protocol):
    """A storage that somebody follows; its role may change as more is known."""

    role: Role


class Start:
    """The beginning of a region: the blocks that lived, and the number of allocations so far, by device."""

    def __init__(self, blocks: Mapping[int, Mapping[int, Block]], numbers: Mapping[int, int]) -> None:
        self.blocks = blocks
        self.numbers = numbers


class CudaTrace:
    """Listens to a LiveStorage while the allocator records its history, from the moment that CUDA is in use."""

    kind = "cuda"

    def __init__(self, root: Path) -> None:
        self._sites = CodeSites(root)
        self._recording = False
        self._began: Start | None = None
        self._shown: dict[int, list[tuple[int, int, Followed]]] = {}
        self._ran: dict[int, list[Ran]] = {}
        self._seen: dict[int, int] = {}
        self.snapshot: dict[str, Any] | None = None

    def start(self) -> Start | None:
        """Begin recording where CUDA is in use; None where it is not yet."""
        if not torch.cuda.is_initialized():
            return None
        if self._began is None:
            # A history that the test's own code records is left on, and served from.
            self._recording = not history_is_recorded()
            if self._recording:
                record_history("all", context="alloc", stacks="python", clear_history=True)
                self._began = _now()
                self._seen = dict(self._began.numbers)
            return self._began
        return _now()

    def stop(self) -> None:
        """Switch off what was switched on."""
        if self._recording and self._began is not None:
            record_history(None)
        self._recording, self._began = False, None

    def follow(self, live: Followed, storage: torch.UntypedStorage) -> None:
        """Take note of a storage on a CUDA device that an op has shown for the first time."""
        if self._began is None:
            self.start()
        device = storage.device.index
        self._shown.setdefault(device, []).append((_allocations(device), storage.data_ptr(), live))

    def allocated(self) -> bool:
        """Whether anything was allocated on the current device since it was last asked."""
        if self._began is None and self.start() is None:
            return False
        device = torch.cuda.current_device()
        number = _allocations(device)
        before, self._seen[device] = self._seen.get(device, 0), number
        return number != before

    def ran(self, role: Role) -> None:
        """Take note of the op call that did."""
        device = torch.cuda.current_device()
        self._ran.setdefault(device, []).append(Ran(self._seen[device], role))

    def take_snapshot(self) -> None:
        """Keep what the allocator has recorded so far."""
        if self._began is not None:
            self.snapshot = snapshot()

    def peak(self, device: int, region: Start | None) -> HistoryPeak | None:
        """Return the peak of a region that began at a start; None where its history is not known."""
        began = self._began
        if began is None or self.snapshot is None or not self._recording:
            return None
        start = region or began
        number = start.numbers.get(device, 0)
        return history_peak(
            start.blocks.get(device, {}),
            self.snapshot["device_traces"][device],
            skip=number - began.numbers.get(device, 0),
            number=number,
        )

    def owners(self, device: int, peak: HistoryPeak, peak_bytes: int) -> tuple[Owner, ...]:
        """Return whose the bytes of a peak are."""
        shown = [Shown(number, address, live.role) for number, address, live in self._shown.get(device, ())]
        return owners_of(peak, peak_bytes, shown, self._ran.get(device, ()), self._sites)


def _now() -> Start:
    devices = range(torch.cuda.device_count())
    segments = torch.cuda.memory_snapshot()
    return Start(
        {device: resting(segments, device) for device in devices},
        {device: _allocations(device) for device in devices},
    )


def _allocations(device: int) -> int:
    count: int = torch.cuda.memory_stats_as_nested_dict(device)["allocation"]["all"]["allocated"]
    return count
