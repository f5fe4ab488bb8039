"""What a record was held to and what differs from its baseline, as sheets."""

from __future__ import annotations

from collections.abc import Iterator

from pytest_flopguard.core.baseline import Baseline
from pytest_flopguard.core.delta import Delta, delta_of
from pytest_flopguard.core.expectation import UNITS
from pytest_flopguard.core.record import Record
from pytest_flopguard.core.units import Unit
from pytest_flopguard.core.verdict import Finding
from pytest_flopguard.reporters.amounts import exact, percent
from pytest_flopguard.reporters.finding_text import least_sign, place, sentence, tightest_first, used_text, verdict
from pytest_flopguard.reporters.formula_table import FORMULA_COLUMNS, formula_rows
from pytest_flopguard.reporters.module_costs import OUTSIDE
from pytest_flopguard.reporters.sheet import Sheet, left, right, sheet, signed
from pytest_flopguard.reporters.why import cause, workload_changes


def verdict_sheets(record: Record) -> Iterator[Sheet]:
    """Yield the findings, what differs from the baseline, and closed forms term by term."""
    if record.findings:
        columns = (*left("verdict", "finding"), *right("measured", "least", "most", "used"), *left("written at"))
        yield sheet("Limits", columns, (_finding(record, each) for each in tightest_first(record)))
    if record.baseline is not None:
        yield from _differences(record, record.baseline)
    tally = record.measurement.flops
    for each in record.findings:
        if each.expectation.parts and tally is not None:
            rows = (row.cells for row in formula_rows(each.expectation, tally))
            yield sheet("Closed form and count, term by term", FORMULA_COLUMNS, rows)


def _finding(record: Record, finding: Finding) -> tuple[str, ...]:
    wanted = finding.expectation
    observed, low, high = (
        "-" if each is None else exact(each, wanted.unit) for each in (finding.observed, wanted.low, wanted.high)
    )
    if finding.observed is not None:
        observed = least_sign(finding, record.measurement) + observed
    share = used_text(finding, record.measurement)
    return (verdict(finding), sentence(finding, record.measurement), observed, low, high, share, place(finding))


def _differences(record: Record, baseline: Baseline) -> Iterator[Sheet]:
    seen = record.measurement
    for title, changed in workload_changes(baseline, record):
        yield sheet(title, left("difference"), ((each,) for each in changed))
    if baseline.was:
        rows = ((name, _accepted(name, value)) for name, value in baseline.was.items())
        note = f"The reason that was given: {baseline.reason}" if baseline.reason else ""
        yield sheet("Accepted before the present baseline", (*left("number"), *right("before")), rows, note)
    delta = delta_of(baseline, seen)
    if seen.flops is not None and baseline.total is not None and delta.modules:
        columns = (*right("FLOPs more", "of the baseline"), *left("module"), *right("modules"), *left("cause"))
        note = " ".join(_parts(delta))
        yield sheet("Against the baseline, by module", columns, _modules(delta, baseline.total), note)


def _modules(delta: Delta, whole: int) -> Iterator[tuple[str, ...]]:
    for each in delta.modules:
        share = percent(abs(each.flops), whole)
        yield signed(each.flops, Unit.FLOP), share, each.path or OUTSIDE, f"{each.modules:,}", cause(each)


def _parts(delta: Delta) -> Iterator[str]:
    for word, parts in (("New", delta.added), ("Gone", delta.gone)):
        if parts:
            told = ", ".join(f"{path or OUTSIDE} ({exact(flops, Unit.FLOP)} in all)" for path, flops in parts.items())
            yield f"{word}: {told}."


def _accepted(name: str, value: int) -> str:
    quantity = name.partition(" ")[0]
    unit = next((unit for each, unit in UNITS.items() if each == quantity), Unit.COUNT)
    return exact(value, unit)
