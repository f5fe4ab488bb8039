"""Tests that have a baseline and are gone: each is an item that fails, and that no other plugin trips over."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from pytest_flopguard.core.errors import Problem
from pytest_flopguard.raising import BudgetBroken


class GoneModule(pytest.Module):
    """Takes the place of a test module, which need not exist; nothing is imported."""

    def _getobj(self) -> ModuleType:
        module = ModuleType(self.path.stem)
        module.__file__ = str(self.path)
        return module

    def setup(self) -> None:
        """Set up none of the module's fixtures."""


class GoneTest(pytest.Function):
    """A test function without fixtures, markers and parameters, so that hooks can read all that they usually read."""

    told: Problem

    def setup(self) -> None:
        """Set up no fixtures, also none that are for every test."""

    def runtest(self) -> None:
        """Fail with the place of the entry that is left, and how to fix it."""
        from pytest_flopguard.reporters.failure import DOCS

        raise BudgetBroken(
            f"{self.told}\n\n"
            "Ways out\n"
            "  renamed  give the entry the new name\n"
            "  deleted  --flop-update=trim takes the entry away, in a full run\n\n"
            f"{self.told.code}: {DOCS}#{self.told.code}",
            pytrace=False,
        )

    def reportinfo(self) -> tuple[Path, None, str]:
        """Head the failure with the name: there is no line."""
        return self.path, None, self.name


def gone_tests(session: pytest.Session, gone: Iterable[tuple[str, str, Problem]]) -> Iterator[GoneTest]:
    """Yield a test for each module, name and problem."""
    modules: dict[str, GoneModule] = {}
    for module, test, told in gone:
        if module not in modules:
            path = session.config.rootpath / module
            modules[module] = GoneModule.from_parent(session, path=path, nodeid=module)
        item = GoneTest.from_parent(modules[module], name=test, callobj=_gone)
        # Only now: pytest 9.2 makes the node id of the original name.
        item.originalname = test.partition("[")[0].rpartition("::")[2]
        item.told = told
        # Fixtures that are for every test are not for this one.
        item.fixturenames = []
        yield item


def _gone() -> None:
    """Do nothing: this test is gone."""
