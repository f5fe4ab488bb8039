"""Whether a program fits on a GPU, and the largest size at which it does: by runs on it, simulated, not by formulas."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from pytest_flopguard.backends.base import Unavailable
from pytest_flopguard.backends.simulated.machine import UNLIMITED, Machine
from pytest_flopguard.backends.simulated.memory import SimulatedMemory
from pytest_flopguard.backends.simulated.program import Program
from pytest_flopguard.core.errors import FlopguardError, message
from pytest_flopguard.core.measurement import MemoryPeak

# The first step makes gradients and optimizer states beside everything else, the second one frees and takes as all
# later ones do.
STEPS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The GPU by name, the text of its allocator's settings, and the bytes it has (None: as many as the real one)."""

    gpu: str
    allocator: str | None = None
    capacity: int | None = None

    def start(self, capacity: int | None) -> Machine:
        """Return a machine; FlopguardError with the reason where there can be none."""
        machine = Machine.start(self.gpu, allocator=self.allocator, capacity=capacity)
        if isinstance(machine, Unavailable):
            raise FlopguardError(message("not-simulated", reason=machine.reason))
        return machine


@dataclass(frozen=True, slots=True, kw_only=True)
class Peaks:
    """The peak of a whole run, that of building what it needs, and those of the parts of its steps by name."""

    run: MemoryPeak
    building: MemoryPeak | None
    spans: Mapping[str, MemoryPeak]

    @property
    def reserved(self) -> int:
        """The most bytes that the allocator took from the device, building included."""
        return self.run.detail["reserved_peak_bytes"]

    @property
    def step(self) -> MemoryPeak:
        """The highest peak of the step's parts; building is not among them."""
        return max(self.spans.values(), key=lambda each: each.peak_bytes)


def peaks_of(program: Program, batch: int, seq: int, target: Target) -> Peaks:
    """Return the peaks of some steps on a GPU that never ends, with what uses the memory."""
    machine = target.start(UNLIMITED)
    memory = SimulatedMemory(machine, None)
    with machine.world(), memory:
        run = memory.begin()
        span = memory.begin()
        parts = program(batch, seq)
        building = memory.end(span)
        spans: dict[str, MemoryPeak] = {}
        for _ in range(STEPS):
            for name, part in parts.items():
                span = memory.begin()
                part()
                for peak in memory.end(span):
                    if name not in spans or peak.peak_bytes > spans[name].peak_bytes:
                        spans[name] = peak
        gc.collect()  # a model has cycles: what is alive afterwards is not for chance to say
        found = memory.end(run)
    if not found or not spans:
        raise FlopguardError(f"the program for batch {batch} and seq {seq} put nothing on the device")
    return Peaks(run=found[0], building=next(iter(building), None), spans=spans)


def fits(program: Program, batch: int, seq: int, target: Target) -> bool:
    """Whether some steps run on the GPU without running out of memory."""
    machine = target.start(target.capacity)
    try:
        with machine.running():
            parts = program(batch, seq)
            for part in (*parts.values(),) * STEPS:
                part()
            gc.collect()
    except torch.OutOfMemoryError:
        return False
    return True


def largest(fits_at: Callable[[int], bool], most: int) -> int:
    """Return the largest size from 1 to ``most`` at which it fits, 0 where none does: doubled, then bisected.

    What fits at some size is taken to fit at all smaller ones.
    """
    good, size = 0, 1
    while size <= most and fits_at(size):
        good, size = size, size * 2
    bad = min(size, most + 1)
    while bad - good > 1:
        middle = (good + bad) // 2
        if fits_at(middle):
            good = middle
        else:
            bad = middle
    return good
