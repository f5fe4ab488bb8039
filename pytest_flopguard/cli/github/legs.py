"""A report made ready to publish: its entries, held against a base or against the baselines that it carries."""

from __future__ import annotations

from dataclasses import dataclass, field

from pytest_flopguard.cli import sides
from pytest_flopguard.core.comparison import compare
from pytest_flopguard.core.record import Record, RunReport
from pytest_flopguard.core.standing import standings
from pytest_flopguard.reporters.github_entries import Entry, Leg, worst_first


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """What a run is compared with; ``measured`` by a run of the same tests, so that what is missing now is gone.

    Without numbers there is nothing to compare with, and ``note`` says why.
    """

    numbers: sides.Side = field(default_factory=dict)
    name: str = ""
    measured: bool = False
    note: str = ""


def leg_of(name: str, run: RunReport, base: Base | None = None, *, trusted: bool = True) -> Leg:
    """Compare a run with a base, without one with the baselines that its records carry."""
    placed = dict(sides.placed(run))
    now = sides.of_report(run)
    if base is None:
        before = {place: record.baseline for place, record in placed.items() if record.baseline is not None}
        now = {place: each for place, each in now.items() if place in before}
        against = "the baseline" if before else ""
    else:
        before, against = base.numbers, base.name if base.numbers else ""
    compared = {(each.nodeid, each.region): each for each in compare(before, now)} if before else {}
    judged = dict(zip(map(id, run.records), standings(run.records), strict=True))
    entries = [
        Entry(
            record=record,
            region=place[1],
            standing=judged[id(record)],
            compared=compared.get(place) if place in now else None,
            accepted="" if base is None or place not in before else _accepted(record, before[place].numbers()),
        )
        for place, record in placed.items()
    ]
    gone = [each for place, each in compared.items() if place not in placed] if base and base.measured else []
    return Leg(
        name=name,
        run=run,
        entries=worst_first(entries),
        gone=tuple(gone),
        against=against,
        has_base=base is not None and bool(before),
        notes=(base.note,) if base and base.note else (),
        trusted=trusted,
    )


def lost_leg(name: str) -> Leg:
    """Return what stands for a run that was waited for and left no report."""
    note = f"{name} left no report: the log of its job says why"
    return Leg(name=name, run=RunReport(tool={}, environment={}), entries=(), notes=(note,), lost=True)


def _accepted(record: Record, before: dict[str, int]) -> str:
    """Return the reason with which the baseline beside a test was moved away from the base's, and holds now."""
    baseline = record.baseline
    if baseline is None or baseline.numbers() == before:
        return ""
    if any(each.status != "met" and each.expectation.source == "baseline" for each in record.findings):
        return ""
    return baseline.reason
