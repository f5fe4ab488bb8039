"""The memory backend of a simulated GPU: predicted peaks of regions, with who held them."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import torch

from pytest_flopguard.backends.dispatch import DispatchFlops
from pytest_flopguard.backends.simulated.holdings import Span
from pytest_flopguard.backends.simulated.machine import Machine
from pytest_flopguard.core.measurement import CATEGORIES, MemoryPeak
from pytest_flopguard.core.owners import Prediction, summed

NAME = "simulated"


class SimulatedMemory:
    """The MemoryBackend of one machine, in whose world the caller runs.

    To be entered last: the machine's mode has to stand on top of those of other backends. The engine that
    counts FLOPs knows which modules run, if it is the one that follows them.
    """

    name = NAME

    def __init__(self, machine: Machine, engine: object) -> None:
        self._machine = machine
        self._modules = engine.watch.modules if isinstance(engine, DispatchFlops) else None
        self._entered = ExitStack()

    def __enter__(self) -> SimulatedMemory:
        modules = self._modules or self._entered.enter_context(self._machine.modules)
        self._roles = self._entered.enter_context(self._machine.listening(modules))
        self._entered.enter_context(self._machine.tracking())
        return self

    def __exit__(self, *exc: object) -> None:
        self._entered.close()

    def record_sites(self, root: Path | None) -> None:
        """From now on tell the line of code that took a block, paths as seen from a folder; None stops it."""
        self._roles.record_sites(root)

    def begin(self) -> Span:
        """Open a region at what the machine holds now."""
        return self._machine.holdings.open()

    def end(self, span: Span) -> tuple[MemoryPeak, ...]:
        """Close a region: one peak, unless nothing was ever on the device."""
        self._roles.mark_roots()
        owners, phase = self._machine.holdings.close(span)
        if not span.allocated:
            return ()
        return (
            MemoryPeak(
                device=f"sim:{self._machine.gpu.name}",
                backend=NAME,
                start_bytes=span.start,
                peak_bytes=span.allocated,
                by_category=dict.fromkeys(CATEGORIES, 0) | summed(owners, lambda each: each.category),
                detail={
                    "requested_peak_bytes": span.requested,
                    "reserved_peak_bytes": span.reserved,
                    "reserved_start_bytes": span.start_reserved,
                },
                owners=owners,
                timeline=span.timeline.points(),
                prediction=self._prediction(span),
                phase=phase,
            ),
        )

    def _prediction(self, span: Span) -> Prediction:
        machine = self._machine
        unmodelled = machine.settings.unmodelled
        return Prediction(
            gpu=machine.gpu.name,
            device=f"cuda:{machine.gpu.sm}",
            torch=str(torch.__version__),  # a plain text, which also travels between processes
            allocator=machine.settings.text or "defaults",
            assumed=machine.assumed,
            unknown=(*unmodelled, *span.unknown),
            at_most=None if unmodelled or span.at_most is None else max(span.at_most, span.allocated),
        )
