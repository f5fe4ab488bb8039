"""Which budget holds for a test, quantity by quantity, and why."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import translate
from functools import cache, lru_cache
from typing import Literal

from pytest_flopguard.budgets.declared import Budget
from pytest_flopguard.budgets.tolerances import QUANTITIES
from pytest_flopguard.core.expectation import Expectation, Origin, Quantity, Source

_LIMIT: Source = "budget"
_FORMULA: Source = "formula"


@dataclass(frozen=True, slots=True, kw_only=True)
class Loser:
    """A budget that covers the test and limits the quantity, but does not hold, and why."""

    budget: Budget
    expectations: tuple[Expectation, ...]
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The budget that holds for one quantity, and those that do not, closest first."""

    quantity: Quantity
    winner: Budget
    expectations: tuple[Expectation, ...]
    losers: tuple[Loser, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolution:
    """Everything that budgets say of one test: a choice for each quantity that some budget limits.

    ``device`` is where the closest budget that says so wants it to run, and ``device_origin`` where that is written.
    ``measure`` is ``"off"`` where a budget says so and no closer one limits anything, and ``measure_origin`` where.
    """

    nodeid: str
    choices: tuple[Choice, ...] = ()
    device: str = ""
    device_origin: Origin | None = None
    measure: Literal["", "off"] = ""
    measure_origin: Origin | None = None

    @property
    def expectations(self) -> tuple[Expectation, ...]:
        """The expectations that hold."""
        return tuple(inner for each in self.choices for inner in each.expectations)


def resolve(nodeid: str, markers: Sequence[Budget], declared: Sequence[Budget]) -> Resolution:
    """Choose for each quantity: marker > exact node id > glob > default.

    Markers come closest first, as from ``Item.iter_markers``, declared budgets in the order of the file. A node id
    with parameters is closer than one without, which covers all parameters; of two globs the one with more literal
    characters is closer, then the later one.
    """
    placed = [(_distance(nodeid, each, at), each) for at, each in enumerate(declared) if covers(each, nodeid)]
    closest = [*markers, *(each for _, each in sorted(placed, key=lambda pair: pair[0]))]
    choices: list[Choice] = []
    # A closed form is no limit: it holds beside the one that a closer budget sets.
    for quantity, source in (*((each, _LIMIT) for each in QUANTITIES), ("flops", _FORMULA)):
        candidates = [each for each in closest if each.of(quantity, source)]
        if candidates:
            winner = candidates[0]
            losers = tuple(
                Loser(budget=each, expectations=each.of(quantity, source), reason=_reason(winner, each))
                for each in candidates[1:]
            )
            chosen = winner.of(quantity, source)
            choices.append(Choice(quantity=quantity, winner=winner, expectations=chosen, losers=losers))
    # The closest that says anything: limits of a single test hold also below a glob that is off.
    saying = next((each for each in closest if each.measure or each.expectations), None)
    off = saying is not None and bool(saying.measure)
    placing = next((each for each in closest if each.device), None)
    return Resolution(
        nodeid=nodeid,
        choices=() if off else tuple(choices),
        measure="off" if off else "",
        measure_origin=saying.origin if off and saying is not None else None,
        device="" if placing is None else placing.device,
        device_origin=None if placing is None else placing.origin,
    )


def covers(budget: Budget, nodeid: str) -> bool:
    """Whether a declared budget is for a test: its pattern fits the node id, with or without the parameters.

    In a glob ``*`` crosses ``/`` and ``::``, and brackets are plain characters.
    """
    if budget.rank == "default":
        return True
    bare = without_parameters(nodeid)
    if budget.rank == "exact":
        return budget.pattern in (nodeid, bare)
    glob = _glob(budget.pattern)
    return bool(glob.match(nodeid) or (bare != nodeid and glob.match(bare)))


@cache
def _glob(pattern: str) -> re.Pattern[str]:
    # The cache of fnmatch itself is smaller than a project may have budgets.
    return re.compile(translate(pattern.replace("[", "[[]")))


@lru_cache(maxsize=1024)
def without_parameters(nodeid: str) -> str:
    """Turn ``"tests/t.py::test_f[a]"`` into ``"tests/t.py::test_f"``; parameters may hold ``::`` and brackets."""
    file, colons, name = nodeid.partition("::")
    return file + colons + name.partition("[")[0]


def _distance(nodeid: str, budget: Budget, position: int) -> tuple[int, int, int]:
    ranks = {"exact": 0, "glob": 1, "default": 2}
    literal = nodeid == budget.pattern if budget.rank == "exact" else _literal_characters(budget.pattern)
    return ranks[budget.rank], -literal, -position


def _literal_characters(pattern: str) -> int:
    return len(pattern) - pattern.count("*") - pattern.count("?")


def _reason(winner: Budget, loser: Budget) -> str:
    if winner.rank != loser.rank:
        names = {"marker": "a marker", "exact": "an exact node id", "glob": "a glob", "default": "the default"}
        return f"{names[winner.rank]} comes before {names[loser.rank]}"
    if winner.rank == "marker":
        return "a closer marker comes first"
    if winner.rank == "exact":
        return "a node id with its parameters comes before one without"
    more, fewer = _literal_characters(winner.pattern), _literal_characters(loser.pattern)
    if more > fewer:
        return f"a glob with more literal characters comes first ({more} against {fewer})"
    return "of two globs with as many literal characters the later one comes first"
