"""The run as text for a terminal: after a pytest run, and from a saved report."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from textwrap import wrap

from pytest_flopguard.core.record import Record, RunReport
from pytest_flopguard.core.standing import standings
from pytest_flopguard.reporters.details import details
from pytest_flopguard.reporters.finding_text import budget_findings, place, sentence, verdict
from pytest_flopguard.reporters.outcome_words import outcome_word, summary
from pytest_flopguard.reporters.paint import Paint, painted, plain
from pytest_flopguard.reporters.predictions import prediction_lines
from pytest_flopguard.reporters.record_cells import file_and_name
from pytest_flopguard.reporters.record_table import record_table
from pytest_flopguard.reporters.table import shorten

MIN_WIDTH = 40
_NAMED_TESTS = 3


def render(run: RunReport, *, verbosity: int, width: int, paint: Paint = plain) -> str:
    """Render a run for a terminal of a width in characters (40 at least).

    Verbosity -1: one line per record that failed or is undecided, the unknown ops, and a summary. 0: the table with
    the tightest finding of each record. 1: one row per finding. 2: every module, op, category and finding as well.
    """
    width = max(width, MIN_WIDTH)
    run = replace(run, records=_by_file(run.records))
    if verbosity < 0:
        return "\n".join([*_failing(run), *_unknown_ops(run, sys.maxsize), summary(run)])
    table = record_table(run.records, width, every_finding=verbosity > 0) if run.records else []
    blocks = [painted(table, paint)] if table else []
    if verbosity > 1:
        blocks.extend(list(details(record)) for record in run.records)
    predictions = [
        line for each in prediction_lines(run.records, every=verbosity > 1) for line in _hanging(each, width)
    ]
    blocks.append(
        [
            *_reasons(run, width),
            *_unknown_ops(run, width),
            *predictions,
            *_notes(run, width),
            *_hanging(summary(run), width),
        ]
    )
    return "\n\n".join("\n".join(block) for block in blocks)


def title(record: Record) -> str:
    """Name a record: its test, and its region where it has a label."""
    label = record.measurement.label
    return f"{record.nodeid}  {label}" if label else record.nodeid


def _by_file(records: Sequence[Record]) -> tuple[Record, ...]:
    """Keep the records of a file together: parallel workers mix them."""
    first: dict[str, int] = {}
    for record in records:
        first.setdefault(file_and_name(record)[0], len(first))
    return tuple(sorted(records, key=lambda record: first[file_and_name(record)[0]]))


def _failing(run: RunReport) -> Iterator[str]:
    for record, standing in zip(run.records, standings(run.records), strict=True):
        if standing == "failed":
            yield f"failed {title(record)}: not by a budget"
        elif outcome_word(record, standing) in ("failed", "undecided"):
            first = budget_findings(record)[0]
            yield f"{verdict(first)} {title(record)}: {sentence(first, record.measurement)} {place(first)}"


def _reasons(run: RunReport, width: int) -> Iterator[str]:
    """Say why findings are undecided or only warned; the broken ones stand in their test's failure."""
    tests: dict[str, list[str]] = {}
    for record in run.records:
        for each in budget_findings(record):
            word = verdict(each)
            if word in ("undecided", "warn") or (word in ("changed", "gone") and not each.fails):
                # Every limit of a record is undecided by the same unknown ops: that is told once.
                where = "" if each.code == "unknown-op" else f" {each.expectation.origin}"
                text = f"{word}: {sentence(each, record.measurement)}{where}"
                tests.setdefault(text, []).append(title(record))
    for text, titles in tests.items():
        yield from _hanging(text, width)
        named = list(dict.fromkeys(titles))
        yield from (f"  {shorten(each, width - 2)}" for each in named[:_NAMED_TESTS])
        if len(named) > _NAMED_TESTS:
            yield f"  and {len(named) - _NAMED_TESTS} more"


def _unknown_ops(run: RunReport, width: int) -> Iterator[str]:
    calls: Counter[str] = Counter()
    for record in run.records:
        for each in record.measurement.flops.unknown_ops if record.measurement.flops else ():
            calls[each.op] += each.calls
    if calls:
        yield from _hanging("ops without a formula: " + ", ".join(f"{op} x{n:,}" for op, n in calls.items()), width)


def _notes(run: RunReport, width: int) -> Iterator[str]:
    for note in run.notes:
        yield from _hanging(f"note: {note}", width)


def _hanging(text: str, width: int) -> Iterable[str]:
    return wrap(text, width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
