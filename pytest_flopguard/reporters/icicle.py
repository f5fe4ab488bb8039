"""Costs of modules as an icicle: one row for each depth, each block as wide as what stands inside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pytest_flopguard.core.folding import fold
from pytest_flopguard.core.units import Unit, format_amount
from pytest_flopguard.reporters.amounts import percent
from pytest_flopguard.reporters.module_costs import OUTSIDE
from pytest_flopguard.reporters.one_line import one_line

WIDTH = 860
_ROW = 26
_LETTER = 6.8  # pixels, on average, at the size of the labels
_PADDING = 8
# A block of fewer pixels cannot be seen; the tables have it.
_LEAST = 1.5
# Pale enough for dark letters in a light and in a dark page.
_COLORS = ("#8ecae6", "#ffc857", "#95d5b2", "#f4a6b8", "#cdb4db", "#ffd6a5", "#b7c68b", "#b8c0ff")
_ALL, _INK = "#c8ccd4", "#16181d"


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A part of the whole: ``start`` and ``size`` in the unit of the costs, ``depth`` from 0 for the whole itself."""

    label: str
    path: str
    depth: int
    start: int
    size: int
    branch: int


@dataclass(slots=True, kw_only=True)
class _Node:
    size: int = 0
    inside: dict[str, _Node] = field(default_factory=dict)


def blocks(costs: Mapping[str, int], whole: str = "all", joined_from: int = 1) -> list[Block]:
    """Lay out costs by module path, the dearest on the left; equal layers are one block that names all of them.

    From the depth ``joined_from`` on, paths of which each is the only one inside the other share a block. What a
    module costs itself, beside those inside, is the empty room below it.
    """
    root = _Node()
    for path, members, cost in fold(dict(costs)):
        node, size = root, cost * len(members)
        node.size += size
        for part in path.split(".") if path else [OUTSIDE]:
            node = node.inside.setdefault(part, _Node())
            node.size += size
    top = Block(label=whole, path=whole, depth=0, start=0, size=root.size, branch=-1)
    return [top, *_laid(root, "", 1, 0, None, joined_from)] if root.size else []


def chart(costs: Mapping[str, int], unit: Unit, whole: str = "all", joined_from: int = 1) -> dict[str, Any] | None:
    """Return the Vega-Lite chart of an icicle; None where there is nothing to draw."""
    found = blocks(costs, whole, joined_from)
    if not found:
        return None
    scale = WIDTH / found[0].size
    values = [_value(each, found[0].size, scale, unit) for each in found if each.size * scale >= _LEAST]
    rows = 1 + max(each.depth for each in found)
    flat = {"axis": None, "scale": {"domain": [0, WIDTH], "nice": False}}
    deep = {"axis": None, "scale": {"domain": [0, rows], "nice": False, "reverse": True}}
    return {
        "width": WIDTH,
        "height": rows * _ROW,
        "data": {"values": values},
        "encoding": {"x": {"field": "left", "type": "quantitative", **flat}},
        "layer": [
            {
                "mark": {"type": "rect", "stroke": _INK, "strokeWidth": 0.6, "cornerRadius": 2},
                "encoding": {
                    "x2": {"field": "right"},
                    "y": {"field": "top", "type": "quantitative", **deep},
                    "y2": {"field": "bottom"},
                    "color": {"field": "color", "type": "nominal", "scale": None},
                    "description": {"field": "told"},
                },
            },
            {
                "mark": {"type": "text", "align": "left", "dx": 5, "color": _INK, "fontSize": 12, "aria": False},
                "encoding": {
                    "y": {"field": "middle", "type": "quantitative", **deep},
                    "text": {"field": "label", "type": "nominal"},
                },
            },
        ],
    }


def _laid(node: _Node, path: str, depth: int, start: int, branch: int | None, joined_from: int) -> Iterator[Block]:
    parts = sorted(node.inside.items(), key=lambda pair: (-pair[1].size, pair[0]))
    for number, (name, inner) in enumerate(parts):
        label = name
        while depth >= joined_from and len(inner.inside) == 1:
            (below, next_inner) = next(iter(inner.inside.items()))
            if next_inner.size != inner.size:
                break
            label, inner = f"{label}.{below}", next_inner
        full = f"{path}.{label}" if path else label
        # Colours tell apart what stands side by side: a model that is all there is has none.
        color = number if branch is None and len(parts) > 1 else branch
        yield Block(
            label=label, path=full, depth=depth, start=start, size=inner.size, branch=-1 if color is None else color
        )
        yield from _laid(inner, full, depth + 1, start, color, joined_from)
        start += inner.size


def _value(block: Block, whole: int, scale: float, unit: Unit) -> dict[str, Any]:
    amount = f"{format_amount(block.size, unit)}, {percent(block.size, whole)}"
    label = one_line(block.label)
    room = int((block.size * scale - _PADDING) / _LETTER)
    return {
        "left": block.start * scale,
        "right": (block.start + block.size) * scale,
        "top": block.depth,
        "bottom": block.depth + 1,
        "middle": block.depth + 0.5,
        "color": _ALL if block.branch < 0 else _COLORS[block.branch % len(_COLORS)],
        "told": f"{one_line(block.path)}: {amount}",
        "label": _label(f"{label}: {amount}", label, room),
    }


def _label(long: str, short: str, room: int) -> str:
    """Return the longest name that fits, cut where even the short one does not, none where only a letter would."""
    if len(long) <= room:
        return long
    if len(short) <= room:
        return short
    return f"{short[: room - 1]}…" if room > 3 else ""
