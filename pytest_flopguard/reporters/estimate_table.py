"""An estimate as tables: the terms of the FLOPs, then every figure by what it is of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pytest_flopguard.core.figure import Figure
from pytest_flopguard.core.units import Unit, format_amount
from pytest_flopguard.reporters import breakdown_table
from pytest_flopguard.reporters.amounts import exact
from pytest_flopguard.reporters.table import Column, Row, lay_out

_COLUMNS = (
    Column(header="", right=False),
    Column(header="exact"),
    Column(header="about"),
    Column(header="how", right=False),
)
# Dotted names by the heading that they stand under.
_HEADINGS = {
    "parameters": "Parameters",
    "active_parameters": "Parameters",
    "matrix_parameters": "Parameters",
    "flops": "FLOPs",
    "run": "Training run",
    "memory": "Memory",
    "time": "Time",
}
_LAST = "Utilisation"
_UNITS = {"FLOP": Unit.FLOP, "B": Unit.BYTE, "": Unit.COUNT}
_THOUSAND = 1000
_HOUR, _DAY = 3600, 86_400


def render(figures: Mapping[str, Figure], form: breakdown_table.BreakdownLike | None, *, title: str) -> str:
    """Render the closed form's terms, then the figures.

    What was not asked for is left out; what is unknown is told, once for each reason.
    """
    lines = [title, ""]
    if form is not None:
        lines += [breakdown_table.render(form), ""]
    rows: list[Row] = []
    before, told = "", set[str]()
    for name, figure in figures.items():
        if figure.value is None and (not figure.applies or figure.how in told):
            continue
        if figure.value is None:
            told.add(figure.how)
        heading = _HEADINGS.get(name.partition(".")[0], _LAST)
        rows.append(_row(name, figure, heading if heading != before else None))
        before = heading
    return "\n".join([*lines, *lay_out(_COLUMNS, rows)])


def _row(name: str, figure: Figure, heading: str | None) -> Row:
    label = name.partition(".")[2] or name
    head, _, rest = label.partition(".")
    label = f"{head}, {rest}" if rest else head
    return Row(cells=(label.replace("_", " "), *_cells(figure), figure.how), heading=heading)


def _cells(figure: Figure) -> Iterator[str]:
    """Yield the exact number and a readable one; a float has no exact one."""
    value, unit = figure.value, figure.unit
    if value is None or isinstance(value, str):
        yield from ("", "unknown" if value is None else value)
    elif isinstance(value, float):
        yield from ("", _real(value, unit))
    elif unit == "FLOP/s":
        yield from (f"{value:,} FLOP/s", f"{format_amount(value, Unit.FLOP)}/s")
    else:
        number, readable = exact(value, _UNITS[unit]), format_amount(value, _UNITS[unit])
        yield from (number, "" if readable == number else readable)


def _real(value: float, unit: str) -> str:
    if unit == "share":
        return f"{value:.1%}"
    if unit != "s":
        return f"{value:,.0f}" if value >= _THOUSAND else f"{value:.4g}"
    if value < 1:
        return f"{value * 1000:.4g} ms"
    if value < _HOUR:
        return f"{value:.4g} s"
    return f"{value / _HOUR:.4g} h" if value < _DAY else f"{value / _DAY:,.2f} days"
