"""The guard of one pytest process: the budgets of each test, the session that measures, the records so far."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from datetime import date
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from platform import platform, python_version
from typing import TYPE_CHECKING, Any

import pytest

from pytest_flopguard.backends.base import Unavailable
from pytest_flopguard.budgets.baselines import Baselines, by_module
from pytest_flopguard.budgets.declared import Budget, read_marker
from pytest_flopguard.budgets.marker_origin import MarkerOrigin, marker_origin
from pytest_flopguard.budgets.projects import Projects
from pytest_flopguard.budgets.resolve import Resolution
from pytest_flopguard.budgets.settings import Settings
from pytest_flopguard.budgets.unmatched import Covered
from pytest_flopguard.core.baseline_change import Change, not_written
from pytest_flopguard.core.baseline_verdict import Terms
from pytest_flopguard.core.errors import (
    FlopguardError,
    FormulaError,
    Problem,
    UsageError,
    code_of,
    message,
    nearest,
    problem,
)
from pytest_flopguard.core.expectation import Expectation, Origin
from pytest_flopguard.core.record import Json, Record, RunReport, TestOutcome, record_from_json, record_to_json
from pytest_flopguard.core.whole_file import write_whole
from pytest_flopguard.fixture import FIXTURE, MARKER, FlopGuard, asks_for_guard
from pytest_flopguard.raising import fail_or_warn
from pytest_flopguard.reporters.absent_devices import absent_devices
from pytest_flopguard.reporters.formats import Reporter, reporter_for
from pytest_flopguard.reporters.junit_properties import PREFIX, properties
from pytest_flopguard.reporters.paint import Paint
from pytest_flopguard.simulation import Simulation

if TYPE_CHECKING:
    from pytest_flopguard.formulas.registry import Registry
    from pytest_flopguard.session import Region, Session

_RECORDS = pytest.StashKey[list[Json]]()


class Guard:
    """What the hooks of ``plugin.py`` share."""

    def __init__(self, config: pytest.Config, settings: Settings) -> None:
        self.settings = settings
        self.projects = Projects(settings)
        self._config = config
        self._session: Session | None = None
        # Called after each op call of a measured test, where somebody looks at a terminal.
        self.tick: Callable[[], None] | None = None
        self.simulation = Simulation(settings)
        self._plans: dict[str, Resolution] = {}
        self._records: dict[str, list[Record]] = {}
        self._reporters: list[tuple[Path, Reporter]] = []
        self._notes: list[str] = []
        self._changes: list[Change] = []
        # Tests that have baselines and are gone, by module and name: for a run that takes their entries away.
        self.vanished: list[tuple[str, str]] = []
        self.gone: list[tuple[str, str, Problem]] = []  # in a run that does not
        self.baselines = Baselines(
            settings.rootdir,
            Terms(
                torch=_version("torch"),
                today=date.today(),
                tolerance=settings.tolerance,
                improvement=settings.improvement,
                strict=settings.strict,
                accepts=frozenset(settings.update),
            ),
            self.projects.tolerance_of,
        )

    def plan(self, items: Sequence[pytest.Item], complete: bool) -> None:
        """Find the budgets of the collected tests; UsageError with everything that is wrong in them.

        ``complete`` is false where a module could not be imported: its tests are hidden, not gone.
        """
        problems = dict.fromkeys(self.projects.read(item.nodeid for item in items))
        for item in items:
            budgets = []
            for mark in item.iter_markers(MARKER):
                budget, wrong = self._read_marker(item, mark)
                budgets.append(budget)
                problems |= dict.fromkeys(wrong)
            self._plans[item.nodeid] = self.projects.resolve(item.nodeid, budgets)
        if complete:
            problems |= dict.fromkeys(self.projects.unmatched(list(self._plans), self._covered()))
        problems |= dict.fromkeys(self.baselines.read(self._plans))
        problems |= dict.fromkeys(self._wrong_formulas())
        problems |= dict.fromkeys(self.simulation.problems(self._plans))
        if problems:
            raise UsageError(problems)
        self.gone = list(self._stale()) if complete else []

    def explain(self, nodeid: str) -> Iterator[Resolution]:
        """Yield what budgets say of the tests that a node id names, from where pytest was started or from the root."""
        path, colons, rest = nodeid.partition("::")
        here = self._relative(Path(os.path.normpath(self._config.invocation_params.dir / path)))
        for wanted in (f"{here}{colons}{rest}", nodeid):
            found = [plan for name, plan in self._plans.items() if wanted == "." or _names(wanted, name)]
            if found:
                yield from found
                return

    def nearest_to(self, nodeid: str) -> str:
        """Return a hint at the test whose node id is like this one, empty if none is."""
        return nearest(nodeid, self._plans)

    def is_guarded(self, item: pytest.Item) -> bool:
        """Whether somebody asked for this test's numbers: a budget of its own, a marker, or the fixture."""
        plan = self._plans.get(item.nodeid)
        has_budget = plan is not None and any(each.winner.rank != "default" for each in plan.choices)
        return has_budget or asks_for_guard(item)

    def watches(self, item: pytest.Item) -> bool:
        """Whether to measure this test; others only where the project itself has imported torch."""
        everything = self.settings.measure == "all" and item.nodeid in self._plans  # one that is gone has no plan
        return self.is_guarded(item) or (everything and "torch" in sys.modules)

    def session(self) -> Session:
        """Return the session; building it imports torch."""
        if self._session is None:
            from pytest_flopguard.backends.select import Backends
            from pytest_flopguard.session import Session

            backends = Backends()
            self._config.hook.pytest_flopguard_backends(backends=backends)
            self._session = Session(self.settings, self._formulas, backends)
            if self.tick is not None:
                self._session.tell(self.tick)
        return self._session

    @cached_property
    def _formulas(self) -> Registry:
        from pytest_flopguard.formulas.registry import Registry

        registry = Registry(self.settings.attention)
        self._config.hook.pytest_flopguard_formulas(registry=registry)
        return registry

    def _wrong_formulas(self) -> Iterator[Problem]:
        """Yield what is wrong in the formulas of a conftest, which takes no torch to tell."""
        try:
            _ = self._formulas
        except FormulaError as error:
            yield Problem(code=code_of(error)[0], text=str(error), where="pytest_flopguard_formulas")

    def call(self, item: pytest.Item) -> Generator[None, object, object]:
        """Run a test's call phase measured, keep its records on the item, and raise what broke.

        The user's own failure goes first.
        """
        session = self.session()
        wanted = list(self._expectations(item, session))
        machine = self.simulation.machine(item, self._plans.get(item.nodeid))
        completed = False
        if isinstance(machine, Unavailable):
            region = session.unmeasured(item.nodeid, wanted, machine.reason)
            records = self._judge(item, region, completed)
            item.stash[_RECORDS] = [record_to_json(each) for each in records]
            self._tell(records)
            pytest.fail(message("not-simulated", reason=machine.reason), pytrace=False)
        sites = self.baselines.has_memory(item.nodeid)
        measuring = session.measure(item.nodeid, "", wanted, sites=sites)
        try:
            with session.on(machine) if machine else nullcontext(), measuring as region:
                result = yield
            completed = True
        finally:
            records = self._judge(item, region, completed)
            item.stash[_RECORDS] = [record_to_json(each) for each in records]
            # Here, and not on the report: a JUnit file takes them from what the item has before its report is made.
            others = [each for each in item.user_properties if not each[0].startswith((f"{PREFIX}.", f"{PREFIX}["))]
            item.user_properties[:] = [*others, *properties(records)]
        self._tell(records)
        return result

    def setup_fixture(self, item: pytest.Item) -> AbstractContextManager[None]:
        """Return the surroundings in which a fixture of one test is to be set up."""
        return self.simulation.fixture(item, self._plans.get(item.nodeid))

    @staticmethod
    def take_records(item: pytest.Item, report: pytest.TestReport) -> list[Json]:
        """Return the records of a test's call as plain JSON, once, with what pytest made of that call."""
        records = item.stash.get(_RECORDS, [])
        item.stash[_RECORDS] = []
        return [each | {"test": _test_outcome(report)} for each in records]

    def read_limits(self, limits: dict[str, Any], path: Path, line: int) -> tuple[Expectation, ...]:
        """Read the limits of a ``flopguard.measure`` call at a line of a test file."""
        __tracebackhide__ = True
        where = MarkerOrigin(origin=self.locate(path, line))
        budget, problems = read_marker((), limits, where, self.projects.tolerance_of(where.origin.path))
        if problems:
            raise UsageError(problems)
        return budget.expectations

    def locate(self, path: Path, line: int) -> Origin:
        """Name a line of a test file."""
        return Origin(path=self._relative(path), line=line)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take the records that came with a test's report, from this process or from a worker."""
        records = getattr(report, "flopguard", None)
        if records:
            self._records[report.nodeid] = [record_from_json(each) for each in records]

    def find_reporters(self) -> None:
        """Find the reporter of each report path; UsageError if there is none for one."""
        formats: dict[str, Reporter] = {}
        self._config.hook.pytest_flopguard_reporters(formats=formats)
        origin = self.settings.origin("report")
        self._reporters = [(path, reporter_for(str(path), origin, formats)) for path in self.settings.report]

    def table(self, verbosity: int, width: int, paint: Paint) -> str:
        """Return the summary of the run, empty if nothing was measured."""
        from pytest_flopguard.reporters import terminal

        return terminal.render(self.report(), verbosity=verbosity, width=width, paint=paint) if self._records else ""

    def write_reports(self, interrupted: bool) -> None:
        """Write the report files, each whole or not at all; UsageError with those that cannot be written."""
        if interrupted:
            self._notes.append("the run was interrupted: tests are missing")
        problems: list[Problem] = []
        for path, reporter in self._reporters:
            try:
                text = _rendered(reporter, self.report())
                path.parent.mkdir(parents=True, exist_ok=True)
                write_whole(path, text)
            except (OSError, FlopguardError) as error:
                reason = (isinstance(error, OSError) and error.strerror) or error
                problems.append(problem("report-not-written", path, reason=reason))
        if problems:
            raise UsageError(problems)

    def update_baselines(self) -> None:
        """Write the baselines that this run was asked to write; UsageError where that cannot be done."""
        if not self.settings.update:
            return
        from pytest_flopguard.budgets.baseline_update import update_module

        tests = by_module(self._records)
        for module in sorted({*tests, *(module for module, _ in self.vanished)}):
            gone = [name for each, name in self.vanished if each == module]
            self._changes += update_module(self.baselines, module, tests.get(module, {}), gone, self.settings.reason)

    def why(self, verbosity: int) -> Iterator[str]:
        """Yield what differs from the baseline in the tests that ``--flop-why`` names, as one text."""
        from pytest_flopguard.reporters import why

        wanted = self.settings.why
        whole = wanted != "*" or verbosity > 1
        found = [
            why.render(record, verbosity=verbosity, whole=whole)
            for nodeid, records in self._records.items()
            if wanted and (wanted == "*" or _names(wanted, nodeid))
            for record in records
        ]
        if found:
            yield ("\n" if verbosity < 0 else "\n\n").join(found)
        elif wanted:
            yield f"--flop-why: no measured test is {wanted!r}"

    def baseline_lines(self) -> list[str]:
        """Return what was written, and which tests were not; empty where no update was asked for."""
        if not self.settings.update:
            return []
        from pytest_flopguard.reporters.baseline_diff import diff_lines

        kept = {nodeid: not_written(tuple(each)) for nodeid, each in self._records.items()}
        reasons = {nodeid: reason for nodeid, reason in kept.items() if reason}
        return list(diff_lines(self._changes, reasons, measured=bool(self._records)))

    def report(self) -> RunReport:
        """Return everything that was collected."""
        records = tuple(record for each in self._records.values() for record in each)
        return RunReport(
            tool={"name": "pytest-flopguard", "version": _version("pytest-flopguard"), "engine": self.settings.engine},
            environment={
                "python": python_version(),
                "platform": platform(),
                "torch": _version("torch"),
                "pytest": pytest.__version__,
            },
            records=records,
            notes=(*self._notes, *absent_devices(records)),
        )

    def _read_marker(self, item: pytest.Item, mark: pytest.Mark) -> tuple[Budget, tuple[Problem, ...]]:
        classes = [node.name for node in item.listchain() if isinstance(node, pytest.Class)]
        function = ".".join([*classes, getattr(item, "originalname", item.name)])
        line = item.location[1]
        where = marker_origin(
            item.path, self.settings.rootdir, function, mark.kwargs, None if line is None else line + 1
        )
        return read_marker(mark.args, mark.kwargs, where, self.projects.tolerance_of(item.nodeid))

    def _covered(self) -> Covered:
        """Tell which budgets this run can judge as unmatched: those whose tests it had to collect."""
        config = self._config
        if config.getoption("lf", False) or config.getoption("ignore") or config.getoption("ignore_glob"):
            return lambda file: False
        whole = config.args_source is not pytest.Config.ArgsSource.ARGS
        if whole and config.invocation_params.dir == config.rootpath:
            return "everything"
        files = {nodeid.partition("::")[0] for nodeid in self._plans}
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
        for module, test, told in self.baselines.stale(list(self._plans), whole=covered == "everything"):
            if covered == "everything" or covered(module):
                if {"changed", "trim"} & set(self.settings.update):
                    self.vanished.append((module, test))
                else:
                    yield module, test, told

    def _expectations(self, item: pytest.Item, session: Session) -> Iterator[Expectation]:
        if item.nodeid in self._plans:
            yield from self._plans[item.nodeid].expectations
        for more in item.ihook.pytest_flopguard_expectations(item=item):
            yield from more
        if session.counts_regions and self.is_guarded(item):
            yield session.no_unknown_ops()

    def _judge(self, item: pytest.Item, whole: Region, completed: bool) -> list[Record]:
        fixture = getattr(item, "funcargs", {}).get(FIXTURE)
        regions = fixture.regions if isinstance(fixture, FlopGuard) else []
        records = [whole.record(), *(each.record() for each in regions)]
        if not self.is_guarded(item) and not _did_work(records[0]):
            return []
        records = self.baselines.hold([replace(each, complete=completed) for each in records])
        for record in records:
            item.ihook.pytest_flopguard_measured(item=item, record=record)
        return records

    def _tell(self, records: list[Record]) -> None:
        fail_or_warn(records, verbosity=self._config.get_verbosity(), accepts=bool(self.settings.update))

    def _relative(self, path: Path) -> str:
        root = self.settings.rootdir
        return (path.relative_to(root) if path.is_relative_to(root) else path).as_posix()


def _names(wanted: str, nodeid: str) -> bool:
    """Whether a node id, or what stands around it, names a test."""
    return nodeid == wanted or nodeid.startswith((f"{wanted}[", f"{wanted}::", f"{wanted}/"))


def _rendered(reporter: Reporter, run: RunReport) -> str:
    try:
        return reporter.render(run)
    except Exception as error:
        # It may be anybody's, and its mistake must cost neither the table nor the other files.
        raise FlopguardError(f"{type(error).__name__}: {error}") from error


def _test_outcome(report: pytest.TestReport) -> TestOutcome:
    # As pytest's own terminal reporter tells them apart.
    if hasattr(report, "wasxfail"):
        return "xfailed" if report.skipped else "xpassed"
    return "passed" if report.passed else "skipped" if report.skipped else "failed"


def _did_work(record: Record) -> bool:
    tally = record.measurement.flops
    return bool(record.findings) or (tally is not None and (tally.at_least > 0 or bool(tally.unknown_ops)))


def _version(package: str) -> str:
    # Not by importing it: the process that reports need not be one that measured.
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"
