"""A titled table of texts, which the files of a run show in their own ways."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pytest_flopguard.core.units import Unit
from pytest_flopguard.reporters.amounts import exact, percent
from pytest_flopguard.reporters.table import Column


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """Rows of unescaped texts below a title; ``note`` is a line of text under them."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""

    def first(self, number: int, elsewhere: str) -> Sheet:
        """Return the sheet with its first rows only, and a note on how many more there are and where."""
        if len(self.rows) <= number:
            return self
        more = f"{len(self.rows) - number:,} more rows stand in {elsewhere}."
        return Sheet(
            title=self.title,
            columns=self.columns,
            rows=self.rows[:number],
            note=f"{self.note} {more}".lstrip(),
        )


def left(*headers: str) -> tuple[Column, ...]:
    """Return columns of words."""
    return tuple(Column(header=each, right=False) for each in headers)


def right(*headers: str) -> tuple[Column, ...]:
    """Return columns of numbers."""
    return tuple(Column(header=each) for each in headers)


def sheet(title: str, columns: Iterable[Column], rows: Iterable[tuple[str, ...]], note: str = "") -> Sheet:
    """Build a sheet of whatever yields its rows."""
    return Sheet(title=title, columns=tuple(columns), rows=tuple(rows), note=note)


def share_rows(values: Mapping[str, int], whole: int, unit: Unit) -> Iterable[tuple[str, ...]]:
    """Yield a name, its exact amount and its share of the whole."""
    return ((name, exact(value, unit), percent(value, whole)) for name, value in values.items())


def signed(value: int, unit: Unit) -> str:
    """Render an exact difference with its sign."""
    return ("+" if value > 0 else "-" if value < 0 else "±") + exact(abs(value), unit)
