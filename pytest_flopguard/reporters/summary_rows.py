"""One row for each record of a run: what it measured, how that moved, and what came of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256

from pytest_flopguard.core.baseline import by_device, held_quantity, memory_amount
from pytest_flopguard.core.record import Record, RunReport
from pytest_flopguard.core.units import Unit, format_amount
from pytest_flopguard.reporters.amounts import exact, least, peak_text
from pytest_flopguard.reporters.baseline_diff import signed_percent
from pytest_flopguard.reporters.finding_text import budget_findings, limit_text, once, place, sentence, used_text
from pytest_flopguard.reporters.outcome_words import Outcome, run_outcomes
from pytest_flopguard.reporters.why import headline


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A number for people and to the last digit, and its change against the baseline; empty texts where none is known.

    ``value`` sorts it, -1 where there is no number.
    """

    text: str = "-"
    exact: str = ""
    value: int = -1
    change: str = ""
    grew: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SummaryRow:
    """A record in the summary; ``key`` names it in links and is the same in every run."""

    record: Record
    outcome: Outcome
    key: str
    flops: Reading
    memory: Reading
    limit: str
    used: str
    causes: tuple[str, ...]

    @property
    def title(self) -> str:
        """The test, and its region where it has a label."""
        return f"{self.record.nodeid}  {self.record.measurement.label}".rstrip()


def summary_rows(run: RunReport) -> list[SummaryRow]:
    """Return the rows of a run, what broke first."""
    rows: list[SummaryRow] = []
    keys: dict[str, int] = {}
    for record, outcome in run_outcomes(run):
        findings = budget_findings(record)
        name = f"{record.nodeid}\n{record.measurement.label}"
        keys[name] = keys.get(name, 0) + 1
        key = sha256(f"{name}\n{keys[name]}".encode("utf-8", "backslashreplace")).hexdigest()[:12]
        rows.append(
            SummaryRow(
                record=record,
                outcome=outcome,
                key=f"t-{key}",
                flops=_flops(record),
                memory=_memory(record),
                limit=limit_text(findings[0]) if findings else "-",
                used=used_text(findings[0], record.measurement) if findings else "-",
                causes=tuple(_causes(record, outcome)),
            )
        )
    return rows


def _flops(record: Record) -> Reading:
    tally, baseline = record.measurement.flops, record.baseline
    if tally is None:
        return Reading()
    precision, known = tally.reading()
    least = f"{precision} " if precision else ""
    before = baseline.total if baseline is not None and tally.total is not None else None
    return _reading(known, Unit.FLOP, before, least)


def _memory(record: Record) -> Reading:
    """Return the largest peak; what the baseline holds of it may be its growth."""
    devices = by_device(record.measurement.memory)
    if not devices:
        return Reading()
    device, peak = max(devices.items(), key=lambda pair: pair[1].peak_bytes)
    accepted = record.baseline.memory.get(device) if record.baseline is not None else None
    grows = held_quantity(device) == "memory_growth"
    before = None if accepted is None else memory_amount(accepted, device)
    now = peak.amount(growth=grows)
    moved = _reading(now, Unit.BYTE, before)
    kind = f" {device}" + (", predicted" if peak.prediction is not None else "")
    return Reading(
        text=peak_text(peak) + kind,
        exact=least(peak) + exact(peak.peak_bytes, Unit.BYTE),
        value=peak.peak_bytes,
        change=moved.change + (" growth" if grows and moved.change else ""),
        grew=moved.grew,
    )


def _reading(now: int, unit: Unit, before: int | None, least: str = "") -> Reading:
    change = ""
    if before is not None and before != now:
        change = signed_percent(now - before, before) if before else "new"
    return Reading(
        text=least + format_amount(now, unit),
        exact=least + exact(now, unit),
        value=now,
        change=change,
        grew=before is not None and now > before,
    )


def _causes(record: Record, outcome: Outcome) -> Iterator[str]:
    """Tell why a record is not simply fine: each finding that fails or warns, and the largest difference."""
    if outcome == "failed" and record.outcome != "failed":
        yield "The test failed by itself, not by a budget."
    elif outcome == "skipped":
        yield "The test was skipped while it ran."
    if not record.complete:
        yield "It did not run to its end: these are the numbers of a part."
    open_ones = once(each for each in budget_findings(record) if each.status != "met")
    for each in open_ones:
        if each.code != "no-baseline":
            yield f"{sentence(each, record.measurement)} {place(each)}"
    if record.baseline is not None and any(each.expectation.source == "baseline" for each in open_ones):
        yield f"Largest difference from the baseline: {headline(record)}"
