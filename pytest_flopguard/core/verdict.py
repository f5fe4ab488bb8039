"""Expectations held against a measurement. Decides and never formats."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from pytest_flopguard.core.expectation import Expectation, Quantity, Source, matches_device, phase_of
from pytest_flopguard.core.measurement import FlopTally, Measurement, MemoryPeak

Status = Literal["met", "broken", "undecided"]
# The key of ``Measurement.unavailable`` for the CPU's memory in a run that measures another device's only.
HOST_MEMORY = "host memory"
_MEMORY: tuple[Quantity, ...] = ("peak_memory", "memory_growth")
# What must be equal differs, whichever way.
_DIFFERENCES: Mapping[Source, str] = {"cross-check": "cross-check", "formula": "formula-differs"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One expectation held against one measurement.

    ``observed`` is the exact value, or for ``code="over-budget"`` next to unknown ops the lower bound that
    already breaks the limit; None when nothing was measured. ``device`` is the measured device of memory limits.
    """

    expectation: Expectation
    observed: int | None
    status: Status
    code: str
    device: str | None = None
    reason: str = ""

    @property
    def fails(self) -> bool:
        """Whether this finding fails the test: broken or undecided, and meant as an error.

        A limit for a device that this run does not have is undecided but fails nothing: the run that has the
        device decides it.
        """
        return self.status != "met" and self.expectation.severity == "error" and self.code != "device-absent"


def judge(measurement: Measurement, expectations: Iterable[Expectation]) -> tuple[Finding, ...]:
    """Hold every expectation against the measurement; undecided never counts as met.

    Of several limits of one source for one memory quantity the best match for each measured device decides
    (the longest key); limits with the same key are all held, and so are those of other sources.
    """
    expectations = tuple(expectations)
    findings = [_judge_one(measurement, each) for each in expectations if each.quantity not in _MEMORY]
    for quantity in _MEMORY:
        # A budget's better key must not hide what a formula or a baseline expects.
        for source in dict.fromkeys(each.source for each in expectations):
            limits = [each for each in expectations if each.quantity == quantity and each.source == source]
            findings.extend(_judge_memory(measurement, quantity, limits))
    return tuple(findings)


def _judge_one(measurement: Measurement, expectation: Expectation) -> Finding:
    quantity = expectation.quantity
    if expectation.derive:
        return _not_measured(expectation, "its closed form was not derived")
    if quantity in ("parameters", "parameter_bytes"):
        if measurement.parameters is None:
            return _not_measured(expectation, measurement.unavailable.get("parameters", "no nn.Module ran"))
        found = measurement.parameters
        return _compare(expectation, found.count if quantity == "parameters" else found.bytes)
    tally = measurement.flops
    if tally is None:
        return _not_measured(expectation, measurement.unavailable.get("flops", "no FLOP engine ran"))
    if quantity == "unknown_ops":
        status: Status = "undecided" if tally.unknown_ops else "met"
        code = "unknown-op" if tally.unknown_ops else "within-budget"
        return Finding(expectation=expectation, observed=len(tally.unknown_ops), status=status, code=code)
    phase = phase_of(quantity)
    precision, number = tally.reading(phase)
    at_least = tally.at_least if phase is None else tally.at_least_in(phase)
    if expectation.high is None or number <= expectation.high:
        if precision != "at least":
            return _with_conventions(_compare(expectation, number), tally)
        return Finding(expectation=expectation, observed=None, status="undecided", code="unknown-op")
    if precision == "at most" and at_least <= expectation.high:
        reason = next(each.at_most for each in tally.upper_bounds if phase in (None, each.phase))
        return Finding(expectation=expectation, observed=number, status="undecided", code="upper-bound", reason=reason)
    return _with_conventions(_compare(expectation, number if not precision else at_least), tally)


def _with_conventions(finding: Finding, tally: FlopTally) -> Finding:
    """Give the reason to a closed form that differs by its convention from the count."""
    wanted = finding.expectation
    if finding.code != "formula-differs":
        return finding
    form = wanted.attention
    if not form and tally.attention == "causal" and wanted.low is not None:
        # The form does not say, but without what masks hide, the numbers agree.
        phase = phase_of(wanted.quantity)
        dense = tally.dense_total if phase is None else tally.dense().in_phase(phase)
        form = "dense" if dense == wanted.low else ""
    if form in ("", tally.attention):
        return finding
    return replace(finding, reason=f"the closed form counts {form} attention, and this run counts {tally.attention}")


def _judge_memory(measurement: Measurement, quantity: Quantity, limits: Sequence[Expectation]) -> Iterator[Finding]:
    matched = False
    for peak in measurement.memory:
        fitting = [each for each in limits if each.device is None or matches_device(each.device, peak.device)]
        # What is written for predictions comes before what a prediction may be held to.
        if not any(each.device for each in fitting):
            fitting += [each for each in limits if _is_predicted_by(each, peak)]
        if fitting:
            matched = True
            longest = max(len(each.device or "") for each in fitting)
            for each in fitting:
                if len(each.device or "") == longest:
                    yield _compare_peak(each, peak)
    if not matched:
        for each in limits:
            yield _absent(measurement, each)


def _is_predicted_by(expectation: Expectation, peak: MemoryPeak) -> bool:
    """Whether a limit that asks for a prediction is about the GPU that a peak is predicted for."""
    if not expectation.predict or expectation.device is None or peak.prediction is None:
        return False
    return matches_device(expectation.device, peak.prediction.device)


def _absent(measurement: Measurement, expectation: Expectation) -> Finding:
    kind = "sim" if expectation.predict else (expectation.device or "").partition(":")[0]
    aside = measurement.unavailable.get(HOST_MEMORY, "") if kind == "cpu" else ""
    reason = aside or measurement.unavailable.get(kind, "")
    if aside:
        return Finding(expectation=expectation, observed=None, status="undecided", code="device-absent", reason=aside)
    # Every run has a CPU, and can simulate: what cannot be measured there is decided by no other run.
    if reason and kind in ("cpu", "sim"):
        return _not_measured(expectation, reason)
    if not reason and not measurement.memory:
        return _not_measured(expectation, measurement.unavailable.get("memory", "no tensor was allocated"))
    return Finding(expectation=expectation, observed=None, status="undecided", code="device-absent", reason=reason)


def _compare_peak(expectation: Expectation, peak: MemoryPeak) -> Finding:
    """Compare a peak; one that misses memory leaves undecided what the missing part may still change.

    A baseline was recorded with the same part missing, so that the two are alike.
    """
    grows = expectation.quantity == "memory_growth"
    observed = peak.amount(growth=grows)
    found = _compare(expectation, observed, device=peak.device)
    if peak.prediction is None or not peak.is_lower_bound or expectation.source == "baseline":
        return found
    if found.status == "broken" and expectation.high is not None and observed > expectation.high:
        return found
    most = peak.prediction.at_most
    if most is not None and grows:
        most -= peak.start_bytes
    high_holds = expectation.high is None or (most is not None and most <= expectation.high)
    low_holds = expectation.low is None or observed >= expectation.low
    if high_holds and low_holds:
        return found
    if not low_holds and most is not None and expectation.low is not None and most < expectation.low:
        return found
    reason = "; ".join(peak.prediction.unknown)
    return replace(found, status="undecided", code="memory-unknown", reason=reason)


def _compare(expectation: Expectation, observed: int, device: str | None = None) -> Finding:
    status: Status = "broken"
    if expectation.high is not None and observed > expectation.high:
        code = "over-budget"
    elif expectation.low is not None and observed < expectation.low:
        code = "under-budget"
    else:
        status, code = "met", "within-budget"
    if status == "broken" and expectation.source == "baseline":
        code = code.replace("budget", "baseline")
    if status == "broken" and expectation.source in _DIFFERENCES:
        code = _DIFFERENCES[expectation.source]
    return Finding(expectation=expectation, observed=observed, status=status, code=code, device=device)


def _not_measured(expectation: Expectation, reason: str) -> Finding:
    return Finding(expectation=expectation, observed=None, status="undecided", code="not-measured", reason=reason)
