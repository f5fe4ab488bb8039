"""Attention's cost over the length of the context, as a table and as a chart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from math import floor, log10
from typing import Any, Protocol

from pytest_flopguard.core.units import Unit, format_amount
from pytest_flopguard.reporters.table import Column, Row, lay_out

_COLUMNS = (
    Column(header="tokens"),
    Column(header="attention\nis counted", right=False),
    Column(header="attention\nper sequence"),
    Column(header="attention over the\nrest of the layers"),
    Column(header="share\nof all"),
    Column(header="FLOPs\nper token"),
    Column(header="times the\nfirst"),
)


class CostLike(Protocol):
    """What is shown of a context's cost."""

    @property
    def seq(self) -> int:
        """Tokens of the sequence."""

    @property
    def attention(self) -> str:
        """The convention, dense or causal."""

    @property
    def core(self) -> int:
        """Forward FLOPs of scores and values."""

    @property
    def overhead(self) -> Fraction:
        """Attention over the rest of the layers."""

    @property
    def share(self) -> Fraction:
        """Attention over everything."""

    @property
    def per_token(self) -> Fraction:
        """Forward FLOPs of a token."""


def render(name: str, costs: Sequence[CostLike]) -> str:
    """Render the table: a row for each length and convention."""
    first = {each.attention: each.per_token for each in reversed(costs)}
    rows = [
        Row(
            cells=(
                f"{each.seq:,}",
                each.attention,
                format_amount(each.core, Unit.FLOP),
                f"{float(each.overhead):.1%}",
                f"{float(each.share):.1%}",
                format_amount(round(each.per_token), Unit.FLOP),
                f"{float(each.per_token / first[each.attention]):.2f}",
            )
        )
        for each in costs
    ]
    return "\n".join([f"{name}, forward pass of one sequence", "", *lay_out(_COLUMNS, rows)])


def chart(name: str, costs: Sequence[CostLike]) -> dict[str, Any]:
    """Return the Vega-Lite chart: a line for each convention, both axes logarithmic."""
    values = [{"tokens": each.seq, "overhead": float(each.overhead), "attention": each.attention} for each in costs]
    lengths = sorted({each.seq for each in costs})
    shares = [each["overhead"] for each in values if isinstance(each["overhead"], float)]
    x = {
        "field": "tokens",
        "type": "quantitative",
        "title": "context length (tokens)",
        "scale": {"type": "log", "base": 2, "nice": False, "padding": 12},
        "axis": {"values": lengths, "format": ",d", "labelAngle": -40},
    }
    y = {
        "field": "overhead",
        "type": "quantitative",
        "title": "attention over the rest of the layers (FLOPs)",
        "scale": {"type": "log", "nice": False, "padding": 12},
        "axis": {"values": list(_ticks(min(shares), max(shares))), "format": "~%"},
    }
    color = {"field": "attention", "type": "nominal", "title": "attention is counted"}
    return {
        "title": {
            "text": f"What attention adds to {name}",
            "subtitle": "Scores and values over projections and MLP; above 100% attention costs more than all else",
        },
        "layer": [
            {
                "data": {"values": values},
                "mark": {"type": "line", "point": True, "strokeWidth": 2.5},
                "encoding": {"x": x, "y": y, "color": color},
            },
            *_even(max(shares)),
        ],
    }


def _even(highest: float) -> Iterator[dict[str, Any]]:
    """Yield the line at which attention costs as much as all else, where the chart reaches it."""
    if highest >= 1:
        yield {
            "data": {"values": [{"even": 1}]},
            "mark": {"type": "rule", "strokeDash": [5, 4], "color": "#666"},
            "encoding": {"y": {"field": "even", "type": "quantitative"}},
        }


def _ticks(low: float, high: float) -> Iterator[float]:
    """Yield 1, 2 and 5 times the powers of ten from one below the range to one above it."""
    for power in range(floor(log10(low)), floor(log10(high)) + 1):
        yield from (float(f"{step}e{power}") for step in (1, 2, 5))
