"""A closed form and a count side by side, term by term, so that the one that differs is seen."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from pytest_flopguard.core.expectation import Expectation, Part, phase_of
from pytest_flopguard.core.measurement import FlopTally
from pytest_flopguard.reporters.module_costs import folded, module_costs
from pytest_flopguard.reporters.table import Column, Row, lay_out

FORMULA_COLUMNS = (
    Column(header="term", right=False),
    Column(header="closed form"),
    Column(header="counted"),
    Column(header="difference"),
    Column(header="equation", right=False),
)


def formula_lines(expectation: Expectation, tally: FlopTally) -> Iterator[str]:
    """Yield the table of ``formula_rows`` below a line that names it."""
    yield "Closed form and count, term by term"
    yield from lay_out(FORMULA_COLUMNS, formula_rows(expectation, tally))


def formula_rows(expectation: Expectation, tally: FlopTally) -> list[Row]:
    """Return the rows: terms that are done in the same modules share one; modules of no term stand at the end.

    A form that says nothing of modules has no counted column to fill; its terms are listed beside the modules that
    the failure shows anyway.
    """
    costs = module_costs(tally, phase_of(expectation.quantity))
    groups: dict[str, list[Part]] = {}
    for part in expectation.parts:
        groups.setdefault(part.modules or f"={part.name}", []).append(part)
    counted = _counted(list(groups), costs)
    rows = [_row(parts, counted.get(key)) for key, parts in groups.items()]
    placed = any(part.modules for part in expectation.parts)
    if placed:
        left = {path: flops for path, flops in costs.items() if _home(path, list(groups)) is None}
        for each in folded(left):
            cells = (f"no term: {each.path}", "", f"{each.flops:,}", f"{each.flops:+,}", "")
            rows.append(Row(cells=cells))
    total, seen = sum(part.flops for part in expectation.parts), sum(costs.values())
    rows.append(Row(cells=("sum", f"{total:,}", f"{seen:,}", _difference(total, seen), "")))
    return rows


def _row(parts: Sequence[Part], counted: int | None) -> Row:
    expected = sum(part.flops for part in parts)
    return Row(
        cells=(
            ", ".join(dict.fromkeys(part.name for part in parts)),
            f"{expected:,}",
            "" if counted is None else f"{counted:,}",
            "" if counted is None else _difference(expected, counted),
            " + ".join(dict.fromkeys(part.equation for part in parts)),
        )
    )


def _difference(expected: int, counted: int) -> str:
    return f"{counted - expected:+,}" if counted != expected else "0"


def _counted(patterns: Sequence[str], costs: Mapping[str, int]) -> dict[str, int]:
    found = dict.fromkeys((each for each in patterns if not each.startswith("=")), 0)
    for path, flops in costs.items():
        home = _home(path, patterns)
        if home is not None:
            found[home] += flops
    return found


def _home(path: str, patterns: Sequence[str]) -> str | None:
    return next((each for each in patterns if not each.startswith("=") and re.search(each, path)), None)
