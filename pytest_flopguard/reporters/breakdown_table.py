"""A closed form as a table: each term with its equation, how often it occurs, its FLOPs and its share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

from pytest_flopguard.reporters.amounts import percent
from pytest_flopguard.reporters.table import Column, Row, lay_out

_COLUMNS = (
    Column(header="term", right=False),
    Column(header="equation", right=False),
    Column(header="each"),
    Column(header="times"),
    Column(header="FLOPs"),
    Column(header="share"),
)


class TermLike(Protocol):
    """What a row shows of a term."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def equation(self) -> str:
        """Its arithmetic in symbols."""

    @property
    def each(self) -> int:
        """Forward FLOPs of one occurrence."""

    @property
    def times(self) -> int:
        """How often it occurs."""

    @property
    def forward(self) -> int:
        """Forward FLOPs of all occurrences."""

    @property
    def backward(self) -> int:
        """Backward FLOPs of all occurrences."""

    @property
    def recompute(self) -> int:
        """FLOPs of all occurrences that are done again in backward."""


class BreakdownLike(Protocol):
    """What the table shows of a breakdown."""

    @property
    def terms(self) -> Iterable[TermLike]:
        """Its terms."""

    @property
    def symbols(self) -> Mapping[str, int]:
        """The values of the symbols in the equations."""

    @property
    def forward(self) -> int:
        """Forward FLOPs."""

    @property
    def backward(self) -> int:
        """Backward FLOPs."""

    @property
    def recompute(self) -> int:
        """FLOPs done again in backward."""

    @property
    def source(self) -> str:
        """Where the closed form comes from."""


def render(form: BreakdownLike, *, backward: bool = False) -> str:
    """Render the terms of one forward pass, their sum, the symbols and the source.

    With ``backward`` the lines below the sum add what backward and recompute cost, and the whole step.
    """
    whole = form.forward
    rows = [
        Row(
            cells=(
                each.name,
                each.equation,
                f"{each.each:,}",
                f"{each.times:,}",
                f"{each.forward:,}",
                percent(each.forward, whole),
            )
        )
        for each in form.terms
    ]
    sums = [("forward", whole)]
    if backward:
        sums.append(("backward", form.backward))
        if form.recompute:
            sums.append(("recompute", form.recompute))
        sums.append(("training step", whole + form.backward + form.recompute))
    rows += [Row(cells=(name, "", "", "", f"{flops:,}", "")) for name, flops in sums]
    lines = lay_out(_COLUMNS, rows)
    if form.symbols:
        lines += ["", "  " + ", ".join(f"{name} = {value:,}" for name, value in form.symbols.items())]
    if form.source:
        lines.append(f"  {form.source}")
    return "\n".join(lines)
