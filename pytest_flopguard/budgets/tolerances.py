"""How much more than its limit each quantity may be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import get_args

from pytest_flopguard.budgets.draft import Draft, KeyPath
from pytest_flopguard.core.errors import nearest
from pytest_flopguard.core.expectation import UNITS, Quantity
from pytest_flopguard.core.units import AmountError, parse_tolerance

# What a budget may limit: unknown ops have a setting instead.
QUANTITIES: tuple[Quantity, ...] = tuple(each for each in get_args(Quantity) if each != "unknown_ops")

Tolerances = Mapping[Quantity, object]


def read_quantity(draft: Draft, path: KeyPath) -> Quantity | None:
    """Return the quantity that the last key of a path names; None, and a problem, where it names none."""
    for each in QUANTITIES:
        if draft.spelled(each) == path[-1]:
            return each
    draft.complain(
        "unknown-quantity", path, name=path[-1], hint=nearest(path[-1], [*map(draft.spelled, QUANTITIES), "formula"])
    )
    return None


def unreadable(tolerance: object, quantity: Quantity) -> str:
    """Return why something is no tolerance for a quantity, empty where it is one."""
    try:
        parse_tolerance(tolerance, 0, UNITS[quantity])
    except AmountError as error:
        return str(error)
    return ""


def read_tolerances(draft: Draft, path: KeyPath, value: object, quantities: Sequence[Quantity]) -> Tolerances:
    """Read one tolerance for all of these quantities, or a table with one for each; values stay as written.

    One tolerance for all must fit the unit of every one of them.
    """
    if isinstance(value, Mapping):
        return _read_table(draft, path, value, quantities)
    reasons = {quantity: unreadable(value, quantity) for quantity in quantities}
    misfits = [quantity for quantity, reason in reasons.items() if reason]
    if not misfits:
        return dict.fromkeys(quantities, value)
    reason = reasons[misfits[0]]
    if len(misfits) < len(quantities):
        names = ", ".join(map(draft.spelled, misfits))
        reason = f"does not fit {names}; write a percentage, or a table with a tolerance for each quantity"
    draft.complain("bad-amount", path, name=".".join(path), value=value, reason=reason)
    return {}


def _read_table(
    draft: Draft, path: KeyPath, table: Mapping[object, object], quantities: Sequence[Quantity]
) -> Tolerances:
    found: dict[Quantity, object] = {}
    for key, value in table.items():
        place = (*path, str(key))
        quantity = read_quantity(draft, place)
        if quantity is None:
            continue
        if quantity not in quantities:
            draft.complain_value(place, value, "a tolerance only for what this budget limits")
        elif reason := unreadable(value, quantity):
            draft.complain("bad-amount", place, name=".".join(place), value=value, reason=reason)
        else:
            found[quantity] = value
    return found
