"""The budgets that people declare: a table of limits in pyproject.toml, or the arguments of a marker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pytest_flopguard.budgets.draft import Draft
from pytest_flopguard.budgets.limits import FORMULA, Terms, read_formula, read_limits, read_severity, read_switch
from pytest_flopguard.budgets.marker_origin import MARKER, MarkerOrigin
from pytest_flopguard.budgets.run_device import DEVICE, read_device
from pytest_flopguard.budgets.tolerances import Tolerances, read_quantity, read_tolerances
from pytest_flopguard.core.errors import Problem
from pytest_flopguard.core.expectation import Expectation, Origin, Quantity, Source

# What a budget says beside its limits.
_TERMS = ("tolerance", "severity", "predict", "measure", DEVICE)
Rank = Literal["marker", "exact", "glob", "default"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Limits that were written together.

    ``pattern`` is the node id or glob of the tests that they are for; ``"flop_budget"`` for a marker and
    ``"default-budget"`` for the default. ``device`` is where these tests are to run, empty where nothing is said of it.
    ``measure`` is ``"off"`` for tests that are to run as they would without the guard.
    """

    pattern: str
    rank: Rank
    expectations: tuple[Expectation, ...]
    origin: Origin
    device: str = ""
    measure: Literal["", "off"] = ""

    def of(self, quantity: Quantity, source: Source = "budget") -> tuple[Expectation, ...]:
        """Return the limits for one quantity: several where they are keyed by device."""
        return tuple(each for each in self.expectations if (each.quantity, each.source) == (quantity, source))


def read_budgets(draft: Draft, tables: object, tolerances: Tolerances) -> tuple[Budget, ...]:
    """Read the tables of limits of several tests, by node id or glob; what is wrong goes to the draft."""
    if not isinstance(tables, Mapping):
        draft.complain_value((), tables, "a table of budgets by test")
        return ()
    return tuple(
        read_budget(draft.inside(pattern), table, pattern, _rank_of(pattern), tolerances)
        for pattern, table in tables.items()
    )


def read_budget(draft: Draft, table: object, pattern: str, rank: Rank, tolerances: Tolerances) -> Budget:
    """Read a table of limits; what is wrong goes to the draft and is left out of the budget.

    ``tolerances`` are those of the settings. Only a marker may limit nothing: it still asks for a measurement.
    """
    found: list[Expectation] = []
    device = ""
    measure: Literal["", "off"] = ""
    if isinstance(table, Mapping) and DEVICE in table:
        device = read_device(draft, (DEVICE,), table[DEVICE])
    if isinstance(table, Mapping) and "measure" in table:
        measure = _read_measure(draft, table)
    if not isinstance(table, Mapping):
        draft.complain_value((), table, "a table of limits")
    elif limits := [str(key) for key in table if key not in _TERMS]:
        formula = limits.pop(limits.index(FORMULA)) if FORMULA in limits else None
        quantities = {key: quantity for key in limits if (quantity := read_quantity(draft, (key,)))}
        own: Tolerances = {}
        severity = Terms().severity
        if "severity" in table:
            severity = read_severity(draft, ("severity",), table["severity"], otherwise=severity)
        predict = "predict" in table and read_switch(draft, ("predict",), table["predict"], otherwise=False)
        if "tolerance" in table:
            own = read_tolerances(draft, ("tolerance",), table["tolerance"], tuple(quantities.values()))
        if formula is not None:
            found += read_formula(draft, table[formula], severity)
        for key, quantity in quantities.items():
            tolerance = own.get(quantity, tolerances.get(quantity, 0))
            terms = Terms(tolerance=tolerance, severity=severity, predict=predict)
            found += read_limits(draft, quantity, table[key], terms)
    elif not {DEVICE, "measure"} & set(table) and (table or rank != "marker"):
        draft.complain_value((), dict(table), "at least one limit")
    return Budget(
        pattern=pattern,
        rank=rank,
        expectations=tuple(found),
        origin=draft.locate(()),
        device=device,
        measure=measure,
    )


def _read_measure(draft: Draft, table: Mapping[object, object]) -> Literal["", "off"]:
    if table["measure"] != "off":
        draft.complain_value(("measure",), table["measure"], '"off"')
        return ""
    if any(str(key) not in _TERMS for key in table):
        draft.complain_value(("measure",), "off", "no limits next to it: a test that is not measured keeps to none")
    return "off"


def read_marker(
    args: Sequence[object], kwargs: Mapping[str, object], where: MarkerOrigin, tolerances: Tolerances
) -> tuple[Budget, tuple[Problem, ...]]:
    """Read the arguments of one ``flop_budget`` marker: the budget, without what is wrong, and what is wrong."""
    draft = Draft(MARKER, joiner="_", locate=where.locate)
    for value in args:
        draft.complain("bad-marker", (), value=value)
    budget = read_budget(draft, kwargs, MARKER, "marker", tolerances)
    return budget, tuple(draft.problems)


def _rank_of(pattern: str) -> Rank:
    return "glob" if "*" in pattern or "?" in pattern else "exact"
