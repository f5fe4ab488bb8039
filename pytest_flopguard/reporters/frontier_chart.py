"""Equal-compute slices and the efficient frontier, as a table and as a chart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from pytest_flopguard.core.units import Unit, format_amount
from pytest_flopguard.reporters.table import Column, Row, lay_out

_COLUMNS = (
    Column(header="compute\n(FLOPs)"),
    Column(header="parameters"),
    Column(header="about"),
    Column(header="tokens"),
    Column(header="about"),
    Column(header="tokens per\nparameter"),
    Column(header="loss\n(nats)"),
)


class PointLike(Protocol):
    """What is shown of a model that is trained with some compute."""

    @property
    def compute(self) -> int:
        """FLOPs of the training run."""

    @property
    def parameters(self) -> int:
        """Its parameters."""

    @property
    def tokens(self) -> int:
        """The tokens that it reads."""

    @property
    def loss(self) -> float:
        """The loss that it comes to."""

    @property
    def tokens_per_parameter(self) -> float:
        """Tokens over parameters."""


def render(source: str, best: Sequence[PointLike]) -> str:
    """Render the frontier: the model of least loss for each compute."""
    rows = [
        Row(
            cells=(
                f"{each.compute:.4g}",
                f"{each.parameters:,}",
                format_amount(each.parameters, Unit.COUNT),
                f"{each.tokens:,}",
                format_amount(each.tokens, Unit.COUNT),
                f"{each.tokens_per_parameter:.1f}",
                f"{each.loss:.3f}",
            )
        )
        for each in best
    ]
    return "\n".join(
        ["Efficient frontier: the model of least loss for a compute", "", *lay_out(_COLUMNS, rows), "", f"  {source}"]
    )


def chart(source: str, slices: Sequence[Sequence[PointLike]], best: Sequence[PointLike]) -> dict[str, Any]:
    """Return the Vega-Lite chart: a curve for each compute, and the frontier through their lowest points."""
    order = [_label(each) for each in best]
    values = [_value(each) for curve in slices for each in curve]
    x = {
        "field": "parameters",
        "type": "quantitative",
        "title": "parameters",
        "scale": {"type": "log"},
        # The format writes 10^9 as G; parameters are counted in B.
        "axis": {"format": "~s", "tickCount": 6, "labelExpr": "replace(datum.label, 'G', 'B')"},
    }
    y = {"field": "loss", "type": "quantitative", "title": "loss (nats per token)", "scale": {"zero": False}}
    color = {
        "field": "compute",
        "type": "ordinal",
        "sort": order,
        "title": "compute (FLOPs)",
        "scale": {"scheme": "viridis"},
        "legend": {"symbolType": "stroke"},
    }
    return {
        "title": {"text": "Loss at equal compute, and the efficient frontier", "subtitle": source},
        "layer": [
            {
                "data": {"values": values},
                "mark": {"type": "line", "strokeWidth": 2},
                "encoding": {"x": x, "y": y, "color": color},
            },
            {
                "data": {"values": [_value(each) for each in best]},
                "mark": {"type": "line", "strokeDash": [5, 4], "color": "#444", "point": {"color": "#444", "size": 50}},
                "encoding": {"x": x, "y": y},
            },
        ],
    }


def _value(point: PointLike) -> dict[str, Any]:
    return {"compute": _label(point), "parameters": point.parameters, "tokens": point.tokens, "loss": point.loss}


def _label(point: PointLike) -> str:
    return f"{point.compute:.3g}"
