"""What a run makes of a baseline: added, changed or trimmed. Decides and never formats."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from pytest_flopguard.core.baseline import Baseline, MemoryBaseline, baseline_of, memory_amount
from pytest_flopguard.core.baseline_verdict import BASELINE, Terms, hold
from pytest_flopguard.core.expectation import Origin
from pytest_flopguard.core.measurement import Measurement
from pytest_flopguard.core.record import Record

Kind = Literal["new", "changed", "trimmed", "gone"]
# Of a trimmed memory number; half of what a win must be, so that it is no win again in the next run.
_HEADROOM = 100
_NOWHERE = Origin(path="")


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One entry that was written: its file, its test and region, and what stood and stands there."""

    file: str
    test: str
    region: str
    kind: Kind
    before: Baseline | None
    after: Baseline | None


def accept(
    before: Baseline | None, measurement: Measurement, terms: Terms, reason: str
) -> tuple[Kind, Baseline] | None:
    """Return the entry that this run writes for a block, None where it leaves it alone.

    ``new`` adds what is missing and alters nothing, ``changed`` takes what broke as it is now, ``trim`` takes wins:
    FLOPs and parameters exactly, memory with head-room.
    """
    now = baseline_of(measurement, terms.torch)
    if before is None:
        return ("new", now) if "new" in terms.accepts and now.numbers() else None
    # As if nothing were accepted and every win told: only the codes count.
    findings = hold(measurement, before, _NOWHERE, replace(terms, improvement="warn", accepts=frozenset()))
    codes = {each.code for each in findings if each.status != "met"}
    moved = codes & {"over-baseline", "workload-changed"} or any(
        each.code == "baseline-environment" and each.device in before.memory for each in findings
    )
    if moved:
        return ("changed", _changed(before, now, codes, reason)) if "changed" in terms.accepts else None
    if "under-baseline" in codes and "trim" in terms.accepts:
        return "trimmed", _trimmed(before, now, {each.device for each in findings if each.code == "under-baseline"})
    added = replace(
        before,
        flops=now.flops if before.flops is None else before.flops,
        modules=now.modules if before.flops is None else before.modules,
        parameters=before.parameters or now.parameters,
        memory={**now.memory, **before.memory},
    )
    return ("new", added) if "new" in terms.accepts and added != before else None


def not_written(records: tuple[Record, ...]) -> str:
    """Return why the records of one test are no baseline, empty where they are: only a test that passes is one."""
    if any(not each.complete for each in records):
        return "it did not run to its end"
    if any(found.fails and found.expectation.source != "baseline" for each in records for found in each.findings):
        return "it fails, and not by its baseline"
    if any(each.measurement.flops is not None and each.measurement.flops.unknown_ops for each in records):
        return "ops without a formula ran, so its FLOPs are not known"
    return ""


def cannot_have(record: Record) -> str:
    """Return why a record cannot be a baseline, though its test passes; empty where it can."""
    return record.measurement.unavailable.get(BASELINE, "")


def _changed(before: Baseline, now: Baseline, codes: set[str], reason: str) -> Baseline:
    # Memory of devices that this run has not stays to be held, unless it is that of other work.
    others = {} if "workload-changed" in codes else before.memory
    after = replace(now, memory={**others, **now.memory}, reason=reason)
    numbers = after.numbers()
    was = {name: value for name, value in before.numbers().items() if numbers.get(name) != value}
    return replace(after, was=was)


def _trimmed(before: Baseline, now: Baseline, devices: set[str | None]) -> Baseline:
    memory: dict[str, MemoryBaseline] = dict(before.memory)
    for device, seen in now.memory.items():
        old = before.memory.get(device)
        if old is not None and device.partition(" #")[0] in devices:
            memory[device] = replace(seen, peak=seen.peak + memory_amount(seen, device) // _HEADROOM)
    return replace(
        before,
        flops=now.flops if before.flops is not None else None,
        modules=now.modules if before.flops is not None else {},
        parameters=now.parameters if before.parameters is not None else None,
        memory=memory,
    )


def numbers_that_moved(change: Change) -> Mapping[str, tuple[int | None, int | None]]:
    """Return each number that is not as before, with the old and the new one."""
    old = change.before.numbers() if change.before else {}
    new = change.after.numbers() if change.after else {}
    return {name: (old.get(name), new.get(name)) for name in {**old, **new} if old.get(name) != new.get(name)}
