"""What the last accepted run of one test, or one region of it, measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date

from pytest_flopguard.core.expectation import Quantity
from pytest_flopguard.core.folding import fold
from pytest_flopguard.core.measurement import PHASES, Attention, Measurement, MemoryPeak, ParameterCount, Phase
from pytest_flopguard.core.owners import DEFAULT_ALLOCATOR, summed
from pytest_flopguard.core.workload import Workload


@dataclass(frozen=True, slots=True, kw_only=True)
class OpWork:
    """Calls of one op in a module (all of a folded one together), and their FLOPs by phase.

    ``masked`` of the dense FLOPs were left out, which the causal convention does where a mask hides them.
    """

    calls: int
    flops: Mapping[Phase, int]
    masked: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryBaseline:
    """Bytes at the start and at the peak, what was held there by category, and the torch release (``2.13``).

    ``allocator`` are the settings that a predicted peak is for, empty for torch's defaults and for what was measured.
    ``modules`` are the bytes by folded path and category; where there are any, they sum to ``held``. ``phase`` is the
    one in which the peak was reached, None where it is not known.
    """

    start: int
    peak: int
    torch: str
    allocator: str = ""
    held: Mapping[str, int] = field(default_factory=dict)
    modules: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    phase: Phase | None = None

    @property
    def growth(self) -> int:
        """The peak less what was there at the start."""
        return self.peak - self.start


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """The accepted numbers of a block; ``flops`` is None where no engine counted.

    ``memory`` is keyed by device (``"cpu"``, ``"cuda:sm90"``, ``"cuda:sm90 #1"`` for a second one of a kind), and
    ``modules`` by folded path and op. ``was`` holds what was accepted before the last ``reason``. Until the day
    ``muted_until``, that day included, what it breaks only warns.
    """

    flops: Mapping[Phase, int] | None = None
    attention: Attention = "dense"
    parameters: ParameterCount | None = None
    memory: Mapping[str, MemoryBaseline] = field(default_factory=dict)
    workload: Workload = field(default_factory=Workload)
    modules: Mapping[str, Mapping[str, OpWork]] = field(default_factory=dict)
    reason: str = ""
    was: Mapping[str, int] = field(default_factory=dict)
    muted_until: date | None = None
    muted_reason: str = ""

    @property
    def total(self) -> int | None:
        """FLOPs of all phases."""
        return None if self.flops is None else sum(self.flops.values())

    def numbers(self) -> dict[str, int]:
        """Every accepted number by its name: ``flops``, ``parameters``, ``peak_memory cpu``, ..."""
        found: dict[str, int] = {}
        if self.flops is not None:
            found["flops"] = sum(self.flops.values())
            found |= {f"{phase}_flops": self.flops[phase] for phase in PHASES if phase in self.flops}
        if self.parameters is not None:
            found |= {"parameters": self.parameters.count, "parameter_bytes": self.parameters.bytes}
        for device, each in self.memory.items():
            found[f"{held_quantity(device)} {device}"] = memory_amount(each, device)
        return found


def baseline_of(measurement: Measurement, torch: str) -> Baseline:
    """Return what a measurement would be as a baseline; ``torch`` is the version that ran.

    FLOPs that hide behind an unknown op are none, and have no modules.
    """
    tally = measurement.flops
    known = tally is not None and not tally.unknown_ops
    phases = {each: tally.known_in(each) for each in PHASES} if tally is not None and known else None
    return Baseline(
        flops=None if phases is None else {phase: flops for phase, flops in phases.items() if flops},
        attention="dense" if tally is None else tally.attention,
        parameters=measurement.parameters,
        memory={device: _memory(peak, release(torch)) for device, peak in by_device(measurement.memory).items()},
        workload=measurement.workload,
        modules=_folded_modules(measurement) if known else {},
    )


def by_device(peaks: tuple[MemoryPeak, ...]) -> dict[str, MemoryPeak]:
    """Name each device's peak; a second device of a kind gets a number of its own."""
    found: dict[str, MemoryPeak] = {}
    for each in sorted(peaks, key=lambda peak: (peak.device, peak.index)):
        same = sum(peak.device == each.device for peak in found.values())
        found[f"{each.device} #{same}" if same else each.device] = each
    return found


def held_quantity(device: str) -> Quantity:
    """Return which memory number a baseline holds for a device.

    What else lies in a CUDA device's memory when a test starts depends on the tests before it; elsewhere the peak
    counts only what the test uses.
    """
    return "memory_growth" if device.startswith("cuda") else "peak_memory"


def memory_amount(memory: MemoryBaseline, device: str) -> int:
    """Return the memory number that is held for a device."""
    return memory.growth if held_quantity(device) == "memory_growth" else memory.peak


def other_environment(accepted: MemoryBaseline, torch: str, allocator: str) -> dict[str, tuple[str, str]]:
    """Return what decides about memory and is not as it was: what it was before, and is now, by name."""
    pairs = {
        "torch": (release(accepted.torch), release(torch)),
        "allocator settings": (accepted.allocator or DEFAULT_ALLOCATOR, allocator or DEFAULT_ALLOCATOR),
    }
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def allocator_of(peak: MemoryPeak) -> str:
    """Return the allocator's settings that a predicted peak is for, empty for the defaults and what was measured."""
    told = "" if peak.prediction is None else peak.prediction.allocator
    return "" if told == DEFAULT_ALLOCATOR else told


def held_by_module(peak: MemoryPeak) -> dict[str, dict[str, int]]:
    """Return the bytes of a peak's owners by module and category; nothing where they are not known."""
    found: dict[str, dict[str, int]] = {}
    for each in peak.owners:
        held = found.setdefault(each.module, {})
        held[each.category] = held.get(each.category, 0) + each.bytes
    return found


def release(version: str) -> str:
    """Return the release that decides about memory: ``2.13`` of ``2.13.0+cpu``."""
    return ".".join(version.split(".")[:2])


def op_work(measurement: Measurement) -> dict[str, dict[str, OpWork]]:
    """Return the counted work by module and op."""
    found: dict[str, dict[str, OpWork]] = {}
    tally = measurement.flops
    for each in () if tally is None else tally.counts:
        if each.kind != "counted" or tally is None:
            continue
        ops = found.setdefault(each.module, {})
        before = ops.get(each.op, OpWork(calls=0, flops={}))
        flops, amount = dict(before.flops), tally.amount(each)
        if amount:
            flops[each.phase] = flops.get(each.phase, 0) + amount
        hidden = each.masked_flops if tally.attention == "causal" else 0
        ops[each.op] = OpWork(calls=before.calls + each.calls, flops=flops, masked=before.masked + hidden)
    return found


def _memory(peak: MemoryPeak, torch: str) -> MemoryBaseline:
    held = {name: size for name, size in peak.by_category.items() if size}
    modules = {
        path: tuple((name, sizes[name]) for name in held if sizes.get(name))
        for path, sizes in held_by_module(peak).items()
    }
    whole = summed(peak.owners, lambda each: each.category)
    return MemoryBaseline(
        start=peak.start_bytes,
        peak=peak.peak_bytes,
        torch=torch,
        allocator=allocator_of(peak),
        phase=peak.phase,
        held=held,
        modules={
            path: {name: size * len(members) for name, size in sizes}
            for path, members, sizes in sorted(fold(modules))
            if sizes
        }
        if {name: size for name, size in whole.items() if size} == held
        else {},
    )


def _folded_modules(measurement: Measurement) -> dict[str, dict[str, OpWork]]:
    work = {
        path: tuple(
            (op, each.calls, tuple((phase, each.flops[phase]) for phase in PHASES if phase in each.flops), each.masked)
            for op, each in sorted(ops.items())
        )
        for path, ops in op_work(measurement).items()
    }
    return {
        path: {
            op: OpWork(
                calls=calls * len(members),
                flops={phase: flops * len(members) for phase, flops in phases},
                masked=masked * len(members),
            )
            for op, calls, phases, masked in value
        }
        for path, members, value in sorted(fold(work))
    }
