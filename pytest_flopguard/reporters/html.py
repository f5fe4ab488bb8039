"""The run as one page of HTML that needs no network: a table of all tests, and a page for each of them."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files
from typing import Any

from pytest_flopguard.core.baseline import by_device, held_quantity
from pytest_flopguard.core.errors import UsageError
from pytest_flopguard.core.record import Record, RunReport
from pytest_flopguard.core.units import Unit, format_amount
from pytest_flopguard.reporters import icicle, memory_chart
from pytest_flopguard.reporters.amounts import peak_text
from pytest_flopguard.reporters.module_costs import module_costs
from pytest_flopguard.reporters.one_line import one_line
from pytest_flopguard.reporters.outcome_words import Outcome, outcome_counts, summary
from pytest_flopguard.reporters.picture import EXTRA, inline_svg
from pytest_flopguard.reporters.record_sheets import record_sheets
from pytest_flopguard.reporters.sheet import Sheet
from pytest_flopguard.reporters.summary_rows import SummaryRow, summary_rows

suffix = ".html"
# How the tables begin that a reader wants to see at once; the rest of a test's tables is folded.
OPENED = (
    "Limits",
    "Against the baseline",
    "Closed form and count, term by term",
    "Ops without a formula",
    "What the workload was before, and is now",
    "What the model's config was before, and is now",
)
# Letters that every font has; the words beside them tell the same.
_MARKS: dict[Outcome, str] = {
    "ok": "✓",
    "failed": "✕",
    "warned": "!",
    "undecided": "?",
    "new": "+",
    "xfailed": "✓",
    "skipped": "–",
    "without a budget": "·",
}
_LONG = ("finding", "cause", "why", "call", "equation", "inputs", "made by", "value", "difference")
_TONES: dict[Outcome, str] = {"failed": "bad", "undecided": "open", "warned": "open", "ok": "good"}
# Where a long name may go on in the next line.
_BREAKS = re.compile(r"::|[/_.\[](?=\w)")
_MOST_ROWS = 200
# A chart takes a fraction of a second to draw.
_MOST_DRAWN = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A chart as SVG, and what it shows."""

    title: str
    svg: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TestPage:
    """What is shown of one record."""

    row: SummaryRow
    sheets: tuple[Sheet, ...]
    figures: tuple[Figure, ...]


def render(run: RunReport) -> str:
    """Render a whole run; without vl-convert there are tables only, which the page says."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup, escape

    room = Environment(
        loader=PackageLoader("pytest_flopguard.reporters", "page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    room.filters["line"] = _line
    room.filters["name"] = lambda text: Markup(_BREAKS.sub(lambda at: f"{at[0]}<wbr>", str(escape(_line(text)))))
    rows = summary_rows(run)
    tests, no_charts = _pages(rows)
    script, style = (_part(name) for name in ("page.js", "page.css"))
    digest = b64encode(sha256(script.encode()).digest()).decode()
    facts = ", ".join(f"{name} {value}" for name, value in {**run.tool, **run.environment}.items())
    return room.get_template("page.html").render(
        summary=summary(run),
        counts=outcome_counts(run),
        notes=run.notes,
        no_charts=no_charts,
        tests=[
            {"row": each.row, "sheets": each.sheets, "figures": [_marked(Markup, figure) for figure in each.figures]}
            for each in tests
        ],
        facts=facts,
        marks=_MARKS,
        tones={outcome: _TONES.get(outcome, "") for outcome in _MARKS},
        long=_LONG,
        opened=OPENED,
        # Both are ours, and the page lets no other script run.
        script=Markup(script),
        style=Markup(style),
        script_hash=f"sha256-{digest}",
    )


def _marked(markup: Any, figure: Figure) -> dict[str, Any]:
    # The converter has escaped every text in it.
    return {"title": figure.title, "svg": markup(figure.svg)}


def _pages(rows: Sequence[SummaryRow]) -> tuple[list[TestPage], str]:
    """Return the page of each row, and why charts are missing, empty where none is."""
    found: list[TestPage] = []
    missing = ""
    for number, row in enumerate(rows):
        figures: tuple[Figure, ...] = ()
        if number >= _MOST_DRAWN:
            missing = missing or f"Charts are drawn for the {_MOST_DRAWN} tests that stand first."
        elif not missing:
            try:
                figures = tuple(_figures(row.record))
            except UsageError:
                missing = f"There are no charts: they need vl-convert-python ({EXTRA})."
        sheets = tuple(each.first(_MOST_ROWS, "the JSON report") for each in record_sheets(row.record))
        found.append(TestPage(row=row, sheets=sheets, figures=figures))
    return found, missing


def _figures(record: Record) -> Iterator[Figure]:
    tally = record.measurement.flops
    if tally is not None:
        precision, known = tally.reading()
        amount = f"{precision} {format_amount(known, Unit.FLOP)}".strip()
        title = f"FLOPs by module: {amount}"
        yield from _figure(title, icicle.chart(module_costs(tally), Unit.FLOP))
    held = record.baseline.memory if record.baseline is not None else {}
    for device, peak in by_device(record.measurement.memory).items():
        # A baseline of the growth alone is no level that could stand beside a peak.
        accepted = held[device].peak if device in held and held_quantity(device) == "peak_memory" else None
        amount = peak_text(peak)
        yield from _figure(f"Memory on {device} over time", memory_chart.timeline(peak, accepted))
        yield from _figure(f"Alive at the peak of {amount} on {device}", memory_chart.alive(peak))


def _figure(title: str, chart: dict[str, Any] | None) -> Iterator[Figure]:
    if chart is not None:
        yield Figure(title=title, svg=inline_svg(chart))


def _line(text: object) -> str:
    return one_line(str(text))


def _part(name: str) -> str:
    return files("pytest_flopguard.reporters").joinpath("page").joinpath(name).read_text(encoding="utf-8")
