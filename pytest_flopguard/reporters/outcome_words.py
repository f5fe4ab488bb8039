"""A record's outcome in one word, counted over a run."""

from __future__ import annotations

from collections import Counter
from typing import Literal, get_args

from pytest_flopguard.core.record import Record, RunReport
from pytest_flopguard.core.standing import Standing, standings
from pytest_flopguard.reporters.finding_text import budget_findings

# In the order in which they are counted; reports that sort put the ones to act upon first.
Outcome = Literal["ok", "failed", "warned", "undecided", "new", "xfailed", "skipped", "without a budget"]
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
_URGENT: tuple[Outcome, ...] = ("failed", "undecided", "warned", "xfailed")


def outcome_word(record: Record, standing: Standing) -> Outcome:
    """Return what became of a record, pytest's word where that is the verdict."""
    if standing != "judged":
        return standing
    if record.outcome == "undecided" and all(
        each.code == "no-baseline" for each in record.findings if each.status == "undecided"
    ):
        return "new"
    if record.outcome != "passed":
        return record.outcome
    return "ok" if budget_findings(record) else "without a budget"


def run_outcomes(run: RunReport) -> list[tuple[Record, Outcome]]:
    """Return the records of a run with their outcomes, what broke first; regions of a test keep their order."""
    words = list(map(outcome_word, run.records, standings(run.records)))
    worst: dict[str, int] = {}
    for record, word in zip(run.records, words, strict=True):
        worst[record.nodeid] = min(worst.get(record.nodeid, len(_URGENT)), urgency(word))
    # Sorted by test too, so that parallel runs write the same file; a test's regions stay behind the whole of it.
    order = sorted(range(len(words)), key=lambda at: (worst[run.records[at].nodeid], run.records[at].nodeid, at))
    return [(run.records[at], words[at]) for at in order]


def urgency(word: Outcome) -> int:
    """Return a number that sorts outcomes by what a reader must see first."""
    return _URGENT.index(word) if word in _URGENT else len(_URGENT)


def summary(run: RunReport) -> str:
    """Count the outcomes in one line."""
    counts = [f"{count} {each}" for each, count in outcome_counts(run).items()]
    return ": ".join([f"{len(run.records)} measured", *([", ".join(counts)] if counts else [])])


def outcome_counts(run: RunReport) -> dict[Outcome, int]:
    """Return how many records have each outcome, in the usual order."""
    counts = Counter(map(outcome_word, run.records, standings(run.records)))
    return {each: counts[each] for each in OUTCOMES if counts[each]}
