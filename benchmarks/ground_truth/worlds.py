"""Where a case runs: on the GPU that is there, or on the simulator. Both answer through ``torch.cuda``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import torch

from ground_truth.recording import PREDICTED, RECORDED
from pytest_flopguard.backends.simulated.history import Event, History
from pytest_flopguard.backends.simulated.recording import history_of, recorded_segments

# The name of the environment's variable that every supported torch reads.
ALLOCATOR = "PYTORCH_CUDA_ALLOC_CONF"


class WorldError(RuntimeError):
    """There is no such world here: the text says why."""


class World(Protocol):
    """A device that ``torch.cuda`` speaks of inside ``running``, with the history of its allocator since then."""

    source: str

    def running(self) -> object:
        """Return a context in which cases run on "cuda"."""

    def events(self) -> list[Event]:
        """Return what the allocator did so far."""

    def history(self) -> History:
        """Return what the allocator did so far, and what it holds now."""

    def notes(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return what was assumed and what is unknown."""


class RealGpu:
    """The GPU of this process, whose allocator has not been used yet."""

    source = RECORDED

    def __init__(self, gpu: str, allocator: str) -> None:
        if not torch.cuda.is_available():
            raise WorldError("torch sees no CUDA device here: record on a machine with a GPU, or use predict")
        if os.environ.get(ALLOCATOR, "") != allocator:
            raise WorldError(f"{ALLOCATOR} is {os.environ.get(ALLOCATOR, '')!r}, and this case wants {allocator!r}")

    @contextmanager
    def running(self) -> Iterator[None]:
        """Let the allocator write its history, without stacks: they would cost time, and are no numbers."""
        torch.cuda.init()
        torch.cuda.memory._record_memory_history("all", context=None, stacks="python", max_entries=5_000_000)
        try:
            yield
        finally:
            torch.cuda.memory._record_memory_history(None)

    def events(self) -> list[Event]:
        """Read the trace of the first device."""
        return list(self.history().events)

    def history(self) -> History:
        """Read the trace and the segments of the first device; nothing was allocated when it began."""
        torch.cuda.synchronize()
        return history_of(torch.cuda.memory._snapshot(), start=())

    def notes(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """A recording assumes nothing."""
        return (), ()


class SimulatedGpu:
    """A GPU of the simulator."""

    source = PREDICTED

    def __init__(self, gpu: str, allocator: str) -> None:
        from pytest_flopguard.backends.base import Unavailable
        from pytest_flopguard.backends.simulated.machine import Machine

        machine = Machine.start(gpu, allocator=allocator)
        if isinstance(machine, Unavailable):
            raise WorldError(machine.reason)
        self.machine = machine
        self.machine.allocator.events = []

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run on the machine."""
        with self.machine.running():
            yield

    def events(self) -> list[Event]:
        """Return what the allocator's model did."""
        return list(self.machine.allocator.events or ())

    def history(self) -> History:
        """Return the same of the allocator's model."""
        final = recorded_segments(self.machine.allocator.snapshot())
        return History(
            settings=self.machine.settings.text, initial=(), events=tuple(self.events()), final=final, assumed=0
        )

    def notes(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return what the machine says of itself."""
        return self.machine.assumed, self.machine.unknown


WORLDS = {RECORDED: RealGpu, PREDICTED: SimulatedGpu}
