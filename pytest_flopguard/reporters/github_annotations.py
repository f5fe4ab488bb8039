"""A run as annotations: the worst findings on the lines where their limits, or their tests, are written."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pytest_flopguard.core.verdict import Finding
from pytest_flopguard.reporters.comparison import number
from pytest_flopguard.reporters.finding_text import place, sentence, tightest_first, verdict
from pytest_flopguard.reporters.github_entries import Entry, Leg
from pytest_flopguard.reporters.workflow_command import Level, annotation

# A step shows ten of a kind and drops the rest without a word.
MOST = 9
# The file below the workspace and the line; no file where there is none to show.
Spot = tuple[str, int | None]
Locate = Callable[[Entry, Finding | None], Spot]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Told:
    level: Level
    entry: Entry
    finding: Finding | None
    title: str
    text: str


def render(leg: Leg, locate: Locate, *, rises_fail: bool = False, open_fails: bool = False) -> str:
    """Render a command for each of the nine worst findings, and one for the rest.

    ``rises_fail`` and ``open_fails`` say what else fails the job: numbers that rose, and what is undecided.
    """
    told = list(_told(leg, rises_fail, open_fails))
    told.sort(key=lambda each: each.level != "error")
    lines = []
    for each in told[:MOST]:
        file, line = locate(each.entry, each.finding)
        lines.append(annotation(each.level, each.text, title=each.title, file=file, line=line))
    rest = told[MOST:]
    if rest:
        # As a notice, so that it takes no place from what the step itself may have to warn of.
        level: Level = "error" if rest[0].level == "error" else "notice"
        lines.append(annotation(level, "the job's summary and the report have them all", title=_more(len(rest))))
    return "".join(f"{line}\n" for line in lines)


def _more(count: int) -> str:
    return f"flopguard: {count} more"


def _told(leg: Leg, rises_fail: bool, open_fails: bool) -> Iterator[_Told]:
    for entry in leg.entries:
        yield from _of_findings(entry, open_fails)
        # What moved from the baseline beside the test is a finding already, and what broke is told once.
        if not leg.has_base or entry.broken or entry.compared is None or not (entry.dearer or entry.unclear):
            continue
        level: Level = "error" if (rises_fail if entry.dearer else open_fails) else "warning"
        lines = [*entry.compared.reasons, *map(number, entry.compared.numbers)]
        yield _Told(
            level=level,
            entry=entry,
            finding=None,
            title=f"flopguard: {entry.compared.verdict} {entry.title}",
            text="\n".join(lines) or entry.compared.verdict,
        )


def _of_findings(entry: Entry, open_fails: bool) -> Iterator[_Told]:
    undecided = entry.open
    for each in tightest_first(entry.record) if entry.standing == "judged" else ():
        warns = each.status == "broken" and each.expectation.severity == "warn"
        if not (each in entry.broken or each in undecided or warns):
            continue
        failing = each in entry.broken or (open_fails and each in undecided)
        yield _Told(
            level="error" if failing else "warning",
            entry=entry,
            finding=each,
            title=f"flopguard: {verdict(each)} {entry.title}",
            text=f"{sentence(each, entry.record.measurement)}\nlimit: {place(each)}",
        )
