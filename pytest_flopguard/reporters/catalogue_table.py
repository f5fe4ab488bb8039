"""The catalogue of formulas as a table, and one formula by itself."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import indent
from typing import Protocol

from pytest_flopguard.reporters.table import Column, Row, lay_out

_COLUMNS = tuple(Column(header=name, right=False) for name in ("name", "kind", "defined in", "what"))


class EntryLike(Protocol):
    """What is shown of a formula."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def kind(self) -> str:
        """What it is a formula of."""

    @property
    def summary(self) -> str:
        """Its first line."""

    @property
    def defined(self) -> str:
        """The dotted name of where it is written."""

    @property
    def place(self) -> str:
        """``file:line``."""

    @property
    def signature(self) -> str:
        """What it is called with."""

    @property
    def text(self) -> str:
        """Equation, symbols, assumptions, source."""

    @property
    def context(self) -> str:
        """What holds for all formulas of its module."""


def render(entries: Sequence[EntryLike]) -> str:
    """Render a row for each formula."""
    rows = [Row(cells=(each.name, each.kind, each.defined, each.summary)) for each in entries]
    return "\n".join(lay_out(_COLUMNS, rows))


def render_one(entry: EntryLike) -> str:
    """Render all that is known of one formula."""
    lines = [f"{entry.name}  ({entry.kind})", f"  {entry.place or entry.defined}"]
    if entry.signature:
        lines.append(f"  {entry.name.rpartition('.')[2]}{entry.signature}")
    lines += ["", indent(entry.text, "  ")]
    if entry.context:
        lines += ["", "  All formulas of its module:", "", indent(entry.context, "  ")]
    return "\n".join(lines)
