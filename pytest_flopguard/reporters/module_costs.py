"""What each module cost, dearest first, with equal layers of one model folded into one line."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from pytest_flopguard.core.measurement import FlopTally, Phase

OUTSIDE = "(outside any module)"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleCost:
    """FLOPs of ``modules`` modules together; ``path`` holds ranges where several are folded: ``h.0-11.mlp``."""

    path: str
    modules: int
    flops: int


def module_costs(tally: FlopTally, phase: Phase | None = None) -> dict[str, int]:
    """Return the FLOPs of every module that has any in a phase (None: in all of them), dearest first."""
    found: dict[str, int] = {}
    for each in tally.counts:
        flops = tally.amount(each)
        if flops and (phase is None or each.phase == phase):
            found[each.module] = found.get(each.module, 0) + flops
    return dict(sorted(found.items(), key=lambda pair: (-pair[1], _in_layer_order(pair[0]))))


def folded(costs: dict[str, int]) -> list[ModuleCost]:
    """Fold modules that differ in one layer number and cost the same; dearest first, and the sum stays.

    Layers of unequal cost stay apart: the odd one out is what a reader looks for.
    """
    rows = {_parts(path): (flops, 1) for path, flops in costs.items()}
    deepest = max((len(parts) for parts in rows), default=0)
    for position in reversed(range(deepest)):
        rows = _fold_at(position, rows)
    found = [ModuleCost(path="".join(parts) or OUTSIDE, modules=n, flops=sum_) for parts, (sum_, n) in rows.items()]
    return sorted(found, key=lambda each: (-each.flops, each.path))


_Rows = dict[tuple[str, ...], tuple[int, int]]


def _fold_at(position: int, rows: _Rows) -> _Rows:
    groups: dict[tuple[object, ...], list[tuple[str, ...]]] = {}
    for parts, cost in rows.items():
        numbered = position < len(parts) and _is_number(parts[position])
        key = (parts[:position], parts[position + 1 :], cost) if numbered else (parts,)
        groups.setdefault(key, []).append(parts)
    merged: _Rows = {}
    for members in groups.values():
        first = members[0]
        flops = sum(rows[each][0] for each in members)
        modules = sum(rows[each][1] for each in members)
        if len(members) > 1:
            first = (*first[:position], _ranges(int(each[position]) for each in members), *first[position + 1 :])
        merged[first] = (flops, modules)
    return merged


def _in_layer_order(path: str) -> list[tuple[int, str]]:
    # "h.2" before "h.10".
    return [(int(part), "") if _is_number(part) else (-1, part) for part in _parts(path)]


def _parts(path: str) -> tuple[str, ...]:
    # "h.2.mlp" and, for the second of several models of a class, "Encoder#2.mlp"; the separators are parts too.
    return tuple(re.split(r"([.#])", path))


def _is_number(part: str) -> bool:
    return part.isdecimal() and str(int(part)) == part


def _ranges(numbers: Iterable[int]) -> str:
    runs: list[list[int]] = []
    for each in sorted(numbers):
        if runs and each == runs[-1][1] + 1:
            runs[-1][1] = each
        else:
            runs.append([each, each])
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in runs)
