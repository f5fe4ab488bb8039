"""Budgets that are for no test: most often a test was renamed, or its name mistyped."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from types import MappingProxyType
from typing import Literal

from pytest_flopguard.budgets.declared import Budget
from pytest_flopguard.budgets.resolve import covers, without_parameters
from pytest_flopguard.core.errors import Problem, nearest, problem

Covered = Literal["everything"] | Callable[[str], bool]
NOWHERE: Mapping[str, str] = MappingProxyType({})


def unmatched(
    declared: Iterable[Budget], nodeids: Sequence[str], covered: Covered, others: Mapping[str, str] = NOWHERE
) -> tuple[Problem, ...]:
    """Return a problem for each declared budget that fits none of the collected tests.

    ``covered`` says which tests the run had to collect: ``"everything"``, or whether all tests of a file. A budget
    whose tests need not be among them is no problem, so a glob over files is judged by a full run only. ``others`` are
    tests that the settings of another file hold for, with that file.
    """
    return tuple(
        problem("unmatched-budget", each.origin, name=each.pattern, hint=_hint(each, nodeids, others))
        for each in declared
        if each.rank in ("exact", "glob")
        and _had_to_be_there(each.pattern, covered)
        and not any(covers(each, nodeid) for nodeid in nodeids)
    )


def _had_to_be_there(pattern: str, covered: Covered) -> bool:
    if covered == "everything":
        return True
    file = _file(pattern)
    return not any(wildcard in file for wildcard in "*?") and covered(file)


def _file(pattern: str) -> str:
    return pattern.partition("::")[0]


def _hint(budget: Budget, nodeids: Sequence[str], others: Mapping[str, str]) -> str:
    pattern = budget.pattern
    for nodeid, file in others.items():
        if covers(budget, nodeid):
            return f"; it is {file} that holds for {nodeid!r}"
    for joint in ("::", "/"):
        whole = pattern.removesuffix("/") + joint
        if any(nodeid.startswith(whole) for nodeid in nodeids):
            return f"; for all of its tests write {whole + '*'!r}"
    files = sorted({_file(nodeid) for nodeid in nodeids})
    if "::" not in pattern:
        return nearest(pattern, files)
    close = get_close_matches(_file(pattern), files, n=1)
    # Only the tests of the closest file: a distance to every test of a large project would take seconds.
    inside = [nodeid for nodeid in nodeids if close and _file(nodeid) == close[0]]
    names = dict.fromkeys(each for nodeid in inside for each in (without_parameters(nodeid), nodeid))
    return nearest(pattern, names) or nearest(pattern, files)
