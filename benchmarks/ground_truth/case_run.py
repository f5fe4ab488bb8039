"""Runs one case of the memory zoo in a world and notes its peaks, phase by phase."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from memory_cases.case import Case, Mark

from ground_truth.recording import Phase, Recording
from ground_truth.worlds import WORLDS, World
from pytest_flopguard.backends.simulated.history import History


def attempt(case: Case, source: str, gpu: str, allocator: str) -> tuple[Recording, History | None]:
    """Run a case in a world of its own; one that fails gives a recording that says how, and no history."""
    try:
        return run_case(case, WORLDS[source](gpu, allocator), allocator)
    except Exception as error:  # noqa: BLE001 - a case may fail in any way, and its recording says how
        said = f"{type(error).__name__}: {error}".partition("\n")[0][:300]
        return Recording(case=case.name, source=source, allocator=allocator, error=said), None


def run_case(case: Case, world: World, allocator: str) -> tuple[Recording, History]:
    """Build the case and run its steps; return its peaks and the allocator's history."""
    if case.library:
        # Before the world begins: a library that is imported in it may take the device for another.
        __import__(case.library)
    phases: list[Phase] = []
    begun = time.perf_counter()
    with world.running(), garbage_held():
        torch.cuda.reset_peak_memory_stats()
        step = case.build("cuda")
        noted(phases, 0)("build")
        for number in range(1, case.steps + 1):
            mark = noted(phases, number)
            step(mark)
            gc.collect()
            mark("end")
        retries = int(torch.cuda.memory_stats().get("num_alloc_retries", 0))
        history = world.history()
        seconds = time.perf_counter() - begun
        del step, mark
    assumed, unknown = world.notes()
    recording = Recording(
        case=case.name, source=world.source, allocator=allocator, steps=case.steps, phases=tuple(phases),
        retries=retries, seconds=round(seconds, 2), assumed=assumed, unknown=unknown,
    )  # fmt: skip
    return recording, history


@contextmanager
def garbage_held() -> Iterator[None]:
    """Collect garbage only where it is asked for: when Python would do it depends on much else."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def noted(phases: list[Phase], step: int) -> Mark:
    """Return a mark that notes the peaks since the one before."""

    def mark(phase: str) -> None:
        stats = torch.cuda.memory_stats()
        phases.append(
            Phase(
                step=step,
                phase=phase,
                allocated=stats.get("allocated_bytes.all.current", 0),
                allocated_peak=stats.get("allocated_bytes.all.peak", 0),
                requested_peak=stats.get("requested_bytes.all.peak", 0),
                reserved_peak=stats.get("reserved_bytes.all.peak", 0),
            )
        )
        torch.cuda.reset_peak_memory_stats()

    return mark
