"""A table with a heading line before some of its rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest

ELLIPSIS = "…"
_INDENT = "  "
_GAP = "  "


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column: its header (lines separated by a newline) and whether its cells stand right."""

    header: str
    right: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Cells in column order; ``heading`` is a line of its own before the row."""

    cells: tuple[str, ...]
    heading: str | None = None


def shorten(text: str, width: int) -> str:
    """Cut the middle out of a text that is longer than the width; its end tells more and keeps more."""
    if len(text) <= width:
        return text
    front = (width - 1) // 3
    return text[:front] + ELLIPSIS + text[len(text) - (width - 1 - front) :]


def lay_out(columns: Sequence[Column], rows: Sequence[Row], width: int | None = None) -> list[str]:
    """Return the table's lines; headings are shortened to the width, cells are not."""
    # Not at the top: a run that prints no table never loads it.
    from tabulate import tabulate

    # As rows: a header proper would make its column two characters wider than its text.
    header = list(zip_longest(*(column.header.split("\n") for column in columns), fillvalue=""))
    text = tabulate(
        [*header, *(row.cells for row in rows)],
        tablefmt="plain",
        colalign=["right" if column.right else "left" for column in columns],
        disable_numparse=True,
    )
    lines = [f"{_INDENT}{line}".rstrip() for line in text.splitlines()]
    found = [*lines[: len(header)], _INDENT + _GAP.join("-" * width for width in column_widths(columns, rows))]
    for row, line in zip(rows, lines[len(header) :], strict=True):
        if row.heading is not None:
            found.append(row.heading if width is None else shorten(row.heading, width))
        found.append(line)
    return found


def column_widths(columns: Sequence[Column], rows: Sequence[Row]) -> list[int]:
    """Return the characters that each column takes."""
    texts = [column.header.split("\n") for column in columns]
    return [max(map(len, [*head, *(row.cells[index] for row in rows)])) for index, head in enumerate(texts)]


def table_width(columns: Sequence[Column], rows: Sequence[Row]) -> int:
    """Return the characters that the longest line takes, headings aside."""
    widths = column_widths(columns, rows)
    return len(_INDENT) + sum(widths) + len(_GAP) * (len(widths) - 1)
