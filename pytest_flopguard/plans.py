"""Which budgets hold for which test of a run, which tests are guarded, and which have a baseline and are gone."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from pytest_flopguard import pytest_api
from pytest_flopguard.budgets.baselines import Baselines
from pytest_flopguard.budgets.declared import Budget, read_marker
from pytest_flopguard.budgets.marker_origin import marker_origin
from pytest_flopguard.budgets.projects import Projects
from pytest_flopguard.budgets.resolve import Resolution
from pytest_flopguard.budgets.settings import Settings
from pytest_flopguard.budgets.unmatched import Covered
from pytest_flopguard.core.errors import Problem, nearest
from pytest_flopguard.core.shown_path import shown_path
from pytest_flopguard.fixture import MARKER, asks_for_guard
from pytest_flopguard.identity import identity


class Plans:
    """The budgets of each collected test, by its identity."""

    def __init__(self, config: pytest.Config, settings: Settings, projects: Projects, baselines: Baselines) -> None:
        self._config = config
        self._settings = settings
        self._projects = projects
        self._baselines = baselines
        self.by_test: dict[str, Resolution] = {}
        self._watched: set[str] = set()
        # Tests that have baselines and are gone, by module and name: for a run that takes their entries away.
        self.vanished: list[tuple[str, str]] = []
        self.gone: list[tuple[str, str, Problem]] = []  # in a run that does not

    def read(self, items: Sequence[pytest.Item], complete: bool) -> dict[Problem, None]:
        """Find the budgets of the collected tests; return everything that is wrong in them.

        ``complete`` is false where a module could not be imported: its tests are hidden, not gone.
        """
        tests = {item: identity(item, self._settings.rootdir) for item in items}
        problems = dict.fromkeys(self._projects.read(tests.values()))
        for item, test in tests.items():
            budgets = []
            for mark in item.iter_markers(MARKER):
                budget, wrong = self._read_marker(item, test, mark)
                budgets.append(budget)
                problems |= dict.fromkeys(wrong)
            self.by_test[test] = self._projects.resolve(test, budgets)
            if self.may_watch(item):
                self._watched.add(test)
        if complete:
            problems |= dict.fromkeys(self._projects.unmatched(list(self.by_test), self._covered()))
        return problems | dict.fromkeys(self._baselines.read(self.by_test))

    def find_gone(self) -> None:
        """Find the tests that have baselines and were not collected, once everything else is right."""
        self.gone = list(self._stale())

    def of(self, item: pytest.Item) -> Resolution | None:
        """Return what budgets say of a test; None for one that was not collected with the others."""
        return self.by_test.get(self.test(item))

    def test(self, item: pytest.Item) -> str:
        """Return the identity of an item."""
        return identity(item, self._settings.rootdir)

    def explain(self, nodeid: str) -> Iterator[Resolution]:
        """Yield what budgets say of the tests that a node id names, from where pytest was started or from the root."""
        path, colons, rest = nodeid.partition("::")
        here = self.relative(Path(os.path.normpath(self._config.invocation_params.dir / path)))
        for wanted in (f"{here}{colons}{rest}", nodeid):
            found = [plan for name, plan in self.by_test.items() if wanted == "." or names(wanted, name)]
            if found:
                yield from found
                return

    def nearest_to(self, nodeid: str) -> str:
        """Return a hint at the test whose node id is like this one, empty if none is."""
        return nearest(nodeid, self.by_test)

    def is_guarded(self, item: pytest.Item) -> bool:
        """Whether somebody asked for this test's numbers: a budget of its own, a marker, or the fixture."""
        plan = self.of(item)
        has_budget = plan is not None and any(each.winner.rank != "default" for each in plan.choices)
        return has_budget or asks_for_guard(item)

    def is_off(self, item: pytest.Item) -> bool:
        """Whether a test is not to be measured: the closest budget that is written for it says so."""
        plan = self.of(item)
        return plan is not None and plan.measure == "off"

    def measures(self, test: str) -> bool:
        """Whether a collected test, by its identity, is measured if it uses torch."""
        return test in self._watched

    def watches(self, item: pytest.Item) -> bool:
        """Whether to measure this test; others only where the project itself has imported torch."""
        return self.may_watch(item) and (self.is_guarded(item) or "torch" in sys.modules)

    def may_watch(self, item: pytest.Item) -> bool:
        """Whether to measure this test if it uses torch."""
        everything = self._settings.measure == "all" and self.of(item) is not None  # one that is gone has no plan
        return not self.is_off(item) and (everything or self.is_guarded(item))

    def relative(self, path: Path) -> str:
        """Name a file from the root directory."""
        return shown_path(path, self._settings.rootdir)

    def _read_marker(self, item: pytest.Item, test: str, mark: pytest.Mark) -> tuple[Budget, tuple[Problem, ...]]:
        classes = [node.name for node in item.listchain() if isinstance(node, pytest.Class)]
        function = ".".join([*classes, pytest_api.function_name(item)])
        line = item.location[1]
        where = marker_origin(
            item.path, self._settings.rootdir, function, mark.kwargs, None if line is None else line + 1
        )
        return read_marker(mark.args, mark.kwargs, where, self._projects.tolerance_of(test))

    def _covered(self) -> Covered:
        """Tell which budgets this run can judge as unmatched: those whose tests it had to collect."""
        config = self._config
        if config.getoption("lf", False) or config.getoption("ignore") or config.getoption("ignore_glob"):
            return lambda file: False
        whole = config.args_source is not pytest.Config.ArgsSource.ARGS
        if whole and config.invocation_params.dir == config.rootpath:
            return "everything"
        files = {test.partition("::")[0] for test in self.by_test}
        selects = any("::" in each for each in config.args)
        root = config.rootpath
        return lambda file: (file in files and not selects) or not (root / file).exists()

    def _stale(self) -> Iterator[tuple[str, str, Problem]]:
        """Yield entries for tests that are gone, as far as this run can know; an update takes them away instead."""
        option = self._config.getoption
        if option("keyword", "") or option("markexpr", "") or option("deselect", None):
            return
        if not all((self._config.invocation_params.dir / each).is_dir() for each in self._config.args):
            return
        covered = self._covered()
        for module, test, told in self._baselines.stale(list(self.by_test), whole=covered == "everything"):
            if covered == "everything" or covered(module):
                if {"changed", "trim"} & set(self._settings.update):
                    self.vanished.append((module, test))
                else:
                    yield module, test, told


def names(wanted: str, nodeid: str) -> bool:
    """Whether a node id, or what is around it, names a test."""
    return nodeid == wanted or nodeid.startswith((f"{wanted}[", f"{wanted}::", f"{wanted}/"))
