"""A measurement held against its baseline. Decides and never formats."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Literal, get_args

from pytest_flopguard.core.baseline import (
    Baseline,
    allocator_of,
    by_device,
    held_quantity,
    memory_amount,
    other_environment,
)
from pytest_flopguard.core.expectation import UNITS, Expectation, Origin, Quantity, Severity
from pytest_flopguard.core.measurement import PHASES, Measurement
from pytest_flopguard.core.units import parse_tolerance
from pytest_flopguard.core.verdict import Finding, judge
from pytest_flopguard.core.workload import input_changes

Update = Literal["new", "changed", "trim"]
Improvement = Literal["ignore", "warn", "error"]
UPDATES: tuple[Update, ...] = get_args(Update)
# The CUDA caching allocator rounds, and libraries take workspaces of their own; live storages are exact.
CUDA_TOLERANCE = "2%"
# Less memory than this below the baseline is no win to report: trim leaves half of it as head-room.
MEMORY_MARGIN = "2%"
# The key of ``Measurement.unavailable`` for a test that cannot have a baseline.
BASELINE = "baseline"
_ACCEPTED_BY: Mapping[str, Update] = {
    "no-baseline": "new",
    "over-baseline": "changed",
    "workload-changed": "changed",
    "region-gone": "changed",
    "varying-calls": "changed",
    "under-baseline": "trim",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """How baselines are held: tolerances as written, and what this run accepts by ``--flop-update``.

    ``torch`` is the version that runs, ``today`` decides what is muted.
    """

    torch: str
    today: date
    tolerance: Mapping[Quantity, object] = field(default_factory=dict)
    improvement: Improvement = "warn"
    strict: bool = False
    accepts: frozenset[Update] = frozenset()


def hold(measurement: Measurement, baseline: Baseline | None, origin: Origin, terms: Terms) -> tuple[Finding, ...]:
    """Hold a measurement against what was accepted for it, None where nothing was.

    A changed workload (other inputs) is undecided as a whole: numbers of different work say nothing of each other. A
    changed config of the model is what made the numbers change, so they are compared. Of findings that
    say the same (a total and its phases, parameters and their bytes) the first is kept.
    """
    found: list[Finding]
    varying = measurement.unavailable.get(BASELINE, "")
    if varying:
        found = [] if baseline is None else [_undecided("flops", origin, "varying-calls", reason=varying)]
        return tuple(_accepted(each, terms) for each in found)
    if baseline is None:
        severity: Severity = "error" if terms.strict else "warn"
        return (_accepted(_undecided("flops", origin, "no-baseline", severity=severity), terms),)
    changed = input_changes(baseline.workload, measurement.workload)
    if (
        measurement.flops is not None
        and baseline.flops is not None
        and measurement.flops.attention != baseline.attention
    ):
        changed.append(f"attention: counted {baseline.attention} before, {measurement.flops.attention} now")
    if changed:
        found = [_undecided("flops", origin, "workload-changed", reason="; ".join(changed))]
    else:
        found = [
            *_flops(measurement, baseline, origin, terms),
            *_parameters(measurement, baseline, origin, terms),
            *_memory(measurement, baseline, origin, terms),
        ]
    return tuple(_accepted(_muted(each, baseline, terms.today), terms) for each in found)


def region_gone(origin: Origin, region: str, baseline: Baseline, terms: Terms) -> Finding:
    """Return the finding on a region that has a baseline and was not measured, though its test ran to the end."""
    found = _undecided("flops", origin, "region-gone", reason=region)
    return _accepted(_muted(found, baseline, terms.today), terms)


def _flops(measurement: Measurement, baseline: Baseline, origin: Origin, terms: Terms) -> Iterator[Finding]:
    if baseline.flops is None:
        return
    quantities: dict[Quantity, int] = {"flops": sum(baseline.flops.values())}
    names: dict[str, Quantity] = {name: name for name in get_args(Quantity)}
    quantities |= {names[f"{phase}_flops"]: baseline.flops.get(phase, 0) for phase in PHASES}
    # What the total may grow by, a phase may.
    slack = parse_tolerance(terms.tolerance.get("flops", 0), quantities["flops"], UNITS["flops"])
    slacks: dict[Quantity, object] = {
        name: max(slack, parse_tolerance(terms.tolerance.get(name, 0), value, UNITS[name]))
        for name, value in quantities.items()
    }
    total, *phases = _held(measurement, quantities, origin, replace(terms, tolerance=slacks))
    yield total
    if total.status == "met":
        # What moved from one phase to another is no win, but the phase that grew is told.
        yield from (each for each in phases if each.code == "over-baseline")


def _parameters(measurement: Measurement, baseline: Baseline, origin: Origin, terms: Terms) -> Iterator[Finding]:
    if baseline.parameters is None:
        return
    accepted = baseline.parameters
    quantities: dict[Quantity, int] = {"parameters": accepted.count, "parameter_bytes": accepted.bytes}
    count, size = _held(measurement, quantities, origin, terms)
    yield count
    if count.status == "met" and size.status != "met":
        yield size


def _memory(measurement: Measurement, baseline: Baseline, origin: Origin, terms: Terms) -> Iterator[Finding]:
    seen = by_device(measurement.memory)
    for device, peak in seen.items():
        quantity, accepted = held_quantity(device), baseline.memory.get(device)
        severity: Severity = "error" if terms.strict else "warn"
        if accepted is None:
            have = ", ".join(baseline.memory) or "no device"
            reason = f"it has memory of {have}, and this run measured {device}"
        elif other := other_environment(accepted, terms.torch, allocator_of(peak)):
            reason = "; ".join(
                f"it was {'predicted' if peak.prediction else 'measured'} with {name} {before}, and this is {now}"
                for name, (before, now) in other.items()
            )
        else:
            only = replace(measurement, memory=(peak,))
            yield from _held(only, {quantity: memory_amount(accepted, device)}, origin, terms, device)
            continue
        yield _undecided(quantity, origin, "baseline-environment", severity=severity, reason=reason, device=device)
    if not seen and baseline.memory:
        reason = measurement.unavailable.get("memory", "no tensor was allocated")
        yield _undecided("peak_memory", origin, "not-measured", reason=reason)


def _held(
    measurement: Measurement, quantities: Mapping[Quantity, int], origin: Origin, terms: Terms, device: str = ""
) -> list[Finding]:
    wanted = [_expected(quantity, value, origin, terms, device) for quantity, value in quantities.items()]
    found: Iterable[Finding] = judge(measurement, wanted)
    return [_as_severe(each, terms.improvement) if each.code == "under-baseline" else each for each in found]


def _expected(quantity: Quantity, value: int, origin: Origin, terms: Terms, device: str) -> Expectation:
    unit = UNITS[quantity]
    usual = CUDA_TOLERANCE if device.startswith("cuda") else 0
    slack = parse_tolerance(terms.tolerance.get(quantity, usual), value, unit)
    margin = max(slack, parse_tolerance(MEMORY_MARGIN, value, unit)) if device else slack
    return Expectation(
        quantity=quantity,
        low=None if terms.improvement == "ignore" else max(0, value - margin),
        high=value + slack,
        origin=origin,
        source="baseline",
    )


def _as_severe(finding: Finding, improvement: Improvement) -> Finding:
    return _with(finding, "error" if improvement == "error" else "warn")


def _muted(finding: Finding, baseline: Baseline, today: date) -> Finding:
    if finding.status == "met" or baseline.muted_until is None:
        return finding
    day = baseline.muted_until.isoformat()
    if today > baseline.muted_until:
        return replace(finding, reason=_joined(finding.reason, f"it was muted until {day}"))
    return _with(
        replace(finding, reason=_joined(finding.reason, f"muted until {day}: {baseline.muted_reason}")), "warn"
    )


def _accepted(finding: Finding, terms: Terms) -> Finding:
    """Let a run that writes the baseline pass what it accepts."""
    environment = finding.code == "baseline-environment" and bool({"new", "changed"} & terms.accepts)
    return _with(finding, "warn") if environment or _ACCEPTED_BY.get(finding.code) in terms.accepts else finding


def _with(finding: Finding, severity: Severity) -> Finding:
    return replace(finding, expectation=replace(finding.expectation, severity=severity))


def _joined(*reasons: str) -> str:
    return "; ".join(each for each in reasons if each)


def _undecided(
    quantity: Quantity,
    origin: Origin,
    code: str,
    *,
    severity: Severity = "error",
    reason: str = "",
    device: str | None = None,
) -> Finding:
    expectation = Expectation(quantity=quantity, origin=origin, severity=severity, source="baseline")
    return Finding(expectation=expectation, observed=None, status="undecided", code=code, device=device, reason=reason)
