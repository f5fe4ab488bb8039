"""What an update wrote into baseline files, entry by entry."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from pytest_flopguard.core.baseline_change import Change, numbers_that_moved
from pytest_flopguard.core.expectation import UNITS, Quantity
from pytest_flopguard.core.units import format_amount
from pytest_flopguard.reporters.amounts import exact, percent, quantity_name

_QUANTITIES: Mapping[str, Quantity] = {name: name for name in UNITS}


def diff_lines(changes: Sequence[Change], not_written: Mapping[str, str], *, measured: bool = True) -> Iterator[str]:
    """Yield each file with its entries: what is new, what moved from where to where and why, and what is gone.

    ``not_written`` are the reasons of tests that are no baseline, by node id; ``measured`` is whether any test was.
    """
    file = ""
    for each in changes:
        if each.file != file:
            file = each.file
            yield file
        yield f"  {each.kind:<8} {each.test}{f'  {each.region}' if each.region else ''}"
        yield from (f"           {line}" for line in _moves(each))
    if not changes:
        rest = "" if not_written else ": none is missing or differs as this update accepts"
        if not measured:
            rest = ": no test was measured"
        yield f"no baseline was written{rest}"
    for nodeid, reason in not_written.items():
        yield f"not written: {nodeid}: {reason}"


def _moves(change: Change) -> Iterator[str]:
    if change.kind == "gone":
        return
    for name, (old, new) in numbers_that_moved(change).items():
        quantity, _, device = name.partition(" ")
        unit = UNITS[_QUANTITIES[quantity]]
        title = quantity_name(_QUANTITIES[quantity]) + (f" on {device}" if device else "")
        if old is None and new is not None:
            yield f"{title}: {format_amount(new, unit)}"
        elif old is not None and new is not None:
            yield f"{title}: {exact(old, unit)} -> {exact(new, unit)} ({signed_percent(new - old, old)})"
        elif old is not None:
            yield f"{title}: {exact(old, unit)}, no longer held"
    if change.after is not None and change.after.reason and change.kind == "changed":
        yield f"reason: {change.after.reason}"


def signed_percent(part: int, whole: int) -> str:
    """Render a difference as a share of what was there, with its sign."""
    return ("+" if part >= 0 else "-") + percent(abs(part), whole)
