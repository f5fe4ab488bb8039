"""The run as Markdown: what broke and why, a table of all tests, and everything else folded."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from pytest_flopguard.core.record import RunReport
from pytest_flopguard.reporters.markdown_text import cell, cell_code, code
from pytest_flopguard.reporters.outcome_words import Outcome, summary
from pytest_flopguard.reporters.record_sheets import record_sheets
from pytest_flopguard.reporters.sheet import Sheet
from pytest_flopguard.reporters.summary_rows import SummaryRow, summary_rows
from pytest_flopguard.reporters.table import Column

suffix = ".md"
MARKS: dict[Outcome, str] = {
    "ok": "✅",
    "failed": "❌",
    "warned": "⚠️",
    "undecided": "❓",
    "new": "🆕",
    "xfailed": "☑️",
    "skipped": "⏭️",
    "without a budget": "▫️",
}
_MOST_ROWS = 30
_TO_ACT_UPON: tuple[Outcome, ...] = ("failed", "undecided", "warned")
_AMOUNT = re.compile(r"(?:at least |at most |<|>= |= )?[+\-±]?[\d,.]+%?(?: [A-Za-z]{1,6})?(?: cpu)?|-|")
_COLUMNS = (
    Column(header="", right=False),
    Column(header="test", right=False),
    Column(header="FLOPs"),
    Column(header="change"),
    Column(header="peak memory"),
    Column(header="change"),
    Column(header="limit"),
    Column(header="used"),
    Column(header="verdict", right=False),
)


def render(run: RunReport) -> str:
    """Render a whole run; GitHub, GitLab and editors fold what stands in ``details``."""
    rows = summary_rows(run)
    return "\n\n".join(["# flopguard", *blocks(run, rows), *(f"{each}\n" for each in tests(rows))]).rstrip() + "\n"


def blocks(run: RunReport, rows: Sequence[SummaryRow]) -> Iterator[str]:
    """Yield the summary, what is to be acted upon, and the table of all tests."""
    yield f"**{summary(run)}**"
    yield from (f"> {cell(note)}" for note in run.notes)
    told = list(causes(rows))
    if told:
        yield "## To act upon"
        yield "\n".join(told)
    if rows:
        yield "## Tests"
        yield _laid_out(_COLUMNS, map(_row, rows))
    facts = [cell(f"{name} {value}") for name, value in {**run.tool, **run.environment}.items()]
    if facts:
        yield f"<sub>{', '.join(facts)}</sub>"


def causes(rows: Sequence[SummaryRow]) -> Iterator[str]:
    """Yield a list item for each record that failed, is undecided or warns, with its causes below it."""
    for row in rows:
        if row.outcome in _TO_ACT_UPON:
            yield f"- {MARKS[row.outcome]} {code(row.title)}"
            yield from (f"  - {cell(each)}" for each in row.causes)


def tests(rows: Sequence[SummaryRow]) -> Iterator[str]:
    """Yield a fold for each record with all that it holds."""
    for row in rows:
        found = (each.first(_MOST_ROWS, "the HTML and JSON reports") for each in record_sheets(row.record))
        sheets = "\n\n".join(map(sheet_text, found))
        summary_line = f"<summary>{MARKS[row.outcome]} <code>{cell(row.title)}</code></summary>"
        yield f"<details>\n{summary_line}\n\n{sheets}\n\n</details>"


def sheet_text(sheet: Sheet) -> str:
    """Render a sheet as a title, a table and its note."""
    parts = [f"**{cell(sheet.title)}**", table(sheet.columns, sheet.rows)]
    if sheet.note:
        parts.append(cell(sheet.note))
    return "\n\n".join(parts)


def table(columns: Sequence[Column], rows: Iterable[Sequence[str]]) -> str:
    """Render a table whose cells hold any text."""
    return _laid_out(columns, ([_cell(text) for text in row] for row in rows))


def _cell(text: str) -> str:
    """Leave amounts readable in the file itself: there is nothing in them to escape."""
    return text if _AMOUNT.fullmatch(text) else cell(text)


def _laid_out(columns: Sequence[Column], rows: Iterable[Sequence[str]]) -> str:
    from tabulate import tabulate

    return tabulate(
        [list(each) for each in rows],
        headers=[cell(" ".join(each.header.split())) for each in columns],
        tablefmt="pipe",
        colalign=["right" if each.right else "left" for each in columns],
        disable_numparse=True,
    )


def _row(row: SummaryRow) -> tuple[str, ...]:
    numbers = (row.flops.text, row.flops.change, row.memory.text, row.memory.change, row.limit, row.used)
    return (MARKS[row.outcome], cell_code(row.title), *map(_cell, numbers), row.outcome)
