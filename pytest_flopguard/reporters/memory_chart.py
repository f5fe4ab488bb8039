"""Memory over a region's allocation events, with the peak marked."""

from __future__ import annotations

from typing import Any

from pytest_flopguard.core.measurement import MemoryPeak
from pytest_flopguard.core.owners import summed
from pytest_flopguard.core.units import Unit, format_amount
from pytest_flopguard.reporters import icicle

# With room for the axis it is as wide as an icicle.
_WIDTH, _HEIGHT = icicle.WIDTH - 70, 220
_LINE, _PEAK = "#4f8fd0", "#d9542b"


def timeline(peak: MemoryPeak, accepted: int | None = None) -> dict[str, Any] | None:
    """Return the Vega-Lite chart of a peak's timeline; None where none was recorded.

    ``accepted`` is the peak of the baseline, in bytes.
    """
    if not peak.timeline:
        return None
    # One unit for the whole axis, that of the peak.
    top = max(peak.peak_bytes, accepted or 0, 1)
    name = format_amount(top, Unit.BYTE).partition(" ")[2]
    size = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}.get(name, 2**50)
    values = [{"tick": tick, "live": live / size} for tick, live in peak.timeline]
    at = next((tick for tick, live in peak.timeline if live == peak.peak_bytes), None)
    # On two sides, so that they can be read where the two levels are close.
    marks = [(peak.peak_bytes, "peak", _PEAK, "left")]
    if accepted is not None and accepted != peak.peak_bytes:
        marks.append((accepted, "baseline", "currentColor", "right"))
    # Short of ten thousand, 50 reads better than 0.05k.
    axis = {"format": "," if peak.timeline[-1][0] < 10_000 else "~s", "grid": False, "tickMinStep": 1}
    x = {"field": "tick", "type": "quantitative", "title": "allocation events", "axis": axis}
    y = {
        "field": "live",
        "type": "quantitative",
        "title": f"live memory ({name})",
        "stack": None,
        "scale": {"domain": [0, top / size * 1.12], "nice": False},
    }
    layers: list[dict[str, Any]] = [
        {
            "data": {"values": values},
            "mark": {"type": "area", "interpolate": "step-after", "color": _LINE, "opacity": 0.35, "line": _line()},
            "encoding": {"x": x, "y": y},
        },
        *(
            {"data": {"values": [{"live": live / size, "told": f"{told} {format_amount(live, Unit.BYTE)}"}]}}
            | _level(y, color, side)
            for live, told, color, side in marks
        ),
    ]
    if at is not None:
        layers.append(
            {
                "data": {"values": [{"tick": at, "live": peak.peak_bytes / size}]},
                "mark": {"type": "point", "filled": True, "size": 70, "color": _PEAK, "opacity": 1},
                "encoding": {"x": x, "y": y},
            }
        )
    return {"width": _WIDTH, "height": _HEIGHT, "layer": layers}


def alive(peak: MemoryPeak) -> dict[str, Any] | None:
    """Return the icicle of what was alive at the peak, categories above modules; None where nobody knows."""
    held = summed(peak.owners, lambda each: ".".join(filter(None, (each.category.replace("_", " "), each.module))))
    return icicle.chart(held, Unit.BYTE, "alive at the peak", joined_from=2)


def _line() -> dict[str, Any]:
    return {"color": _LINE, "strokeWidth": 1.8, "interpolate": "step-after"}


def _level(y: dict[str, Any], color: str, side: str) -> dict[str, Any]:
    """Return a level over the whole width with its name above one end of it."""
    rule = {"mark": {"type": "rule", "color": color, "strokeDash": [5, 4]}}
    at, dx = (0, 4) if side == "left" else (_WIDTH, -4)
    text = {
        "mark": {"type": "text", "align": side, "dx": dx, "dy": -7, "color": color, "fontSize": 12},
        "encoding": {"text": {"field": "told", "type": "nominal"}, "x": {"value": at}},
    }
    return {"encoding": {"y": y}, "layer": [rule, text]}
