"""Module paths of repeated layers folded into one, and back: ``h.0.mlp`` to ``h.11.mlp`` are ``h.0-11.mlp``."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Mapping
from itertools import product
from math import prod
from typing import TypeVar

Value = TypeVar("Value", bound=Hashable)
_Parts = tuple[str, ...]
_RANGES = re.compile(r"\d+(-\d+)?(,\d+(-\d+)?)*")
# No model has as many layers of a kind; a name such as "0-4000000000" must not become as many paths.
_MOST_MEMBERS = 100_000
# The same for all the ranges of a path together.
_MOST_PATHS = 1_000_000


def fold(values: Mapping[str, Value]) -> list[tuple[str, tuple[str, ...], Value]]:
    """Fold paths that differ in one layer number and have the same value; those of unequal value stay apart.

    Each fold is a path, with ranges where it stands for several, its members, and their value. A range never names a
    path that is not there.
    """
    rows: dict[_Parts, tuple[Value, tuple[str, ...]]] = {
        _parts(path): (value, (path,)) for path, value in values.items()
    }
    deepest = max((len(parts) for parts in rows), default=0)
    for position in reversed(range(deepest)):
        rows = _fold_at(position, rows)
    return [("".join(parts), members, value) for parts, (value, members) in rows.items()]


def unfold(path: str) -> list[str]:
    """Return the paths that a folded one stands for; one without ranges is its own only member."""
    numbers = [_numbers(part) or [part] for part in _parts(path)]
    if prod(map(len, numbers)) > _MOST_PATHS:
        return [path]
    return ["".join(each) for each in product(*numbers)]


def in_layer_order(path: str) -> list[tuple[int, str]]:
    """Return a key that sorts ``h.2`` before ``h.10``."""
    return [(int(part), "") if _is_number(part) else (-1, part) for part in _parts(path)]


def _fold_at(
    position: int, rows: Mapping[_Parts, tuple[Value, tuple[str, ...]]]
) -> dict[_Parts, tuple[Value, tuple[str, ...]]]:
    groups: dict[tuple[object, ...], list[_Parts]] = {}
    for parts, (value, members) in rows.items():
        numbered = position < len(parts) and _is_number(parts[position])
        key = (parts[:position], parts[position + 1 :], value, len(members)) if numbered else (parts,)
        groups.setdefault(key, []).append(parts)
    merged: dict[_Parts, tuple[Value, tuple[str, ...]]] = {}
    for alike in groups.values():
        first = alike[0]
        together = tuple(member for each in alike for member in rows[each][1])
        value = rows[first][0]
        if len(alike) > 1:
            first = (*first[:position], _ranges(int(each[position]) for each in alike), *first[position + 1 :])
        merged[first] = (value, together)
    return merged


def _parts(path: str) -> _Parts:
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


def _numbers(part: str) -> list[str]:
    """Return the numbers of ``0-3,5``; none where a part holds no range, or one that nobody folded."""
    if not _RANGES.fullmatch(part) or part.isdecimal():
        return []
    runs = [each.partition("-") for each in part.split(",")]
    if sum(int(high or low) - int(low) for low, _, high in runs) > _MOST_MEMBERS:
        return []
    return [str(each) for low, _, high in runs for each in range(int(low), int(high or low) + 1)]
