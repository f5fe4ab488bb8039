"""The guard of one pytest process: the budgets of each test, the session that measures, the records so far."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_flopguard.backends.base import Unavailable
from pytest_flopguard.budgets.baselines import Baselines
from pytest_flopguard.budgets.declared import read_marker
from pytest_flopguard.budgets.marker_origin import MarkerOrigin
from pytest_flopguard.budgets.projects import Projects
from pytest_flopguard.budgets.settings import Settings
from pytest_flopguard.core.baseline_verdict import Terms
from pytest_flopguard.core.errors import FormulaError, Problem, UsageError, code_of, message
from pytest_flopguard.core.expectation import Expectation, Origin
from pytest_flopguard.core.record import Json, Record, record_to_json
from pytest_flopguard.fixture import FIXTURE, FlopGuard
from pytest_flopguard.plans import Plans
from pytest_flopguard.raising import fail_or_warn, note_as_written
from pytest_flopguard.reporters.junit_properties import PREFIX, properties
from pytest_flopguard.run_report import RunRecords, installed_version
from pytest_flopguard.simulation import Simulation
from pytest_flopguard.varying_calls import without_baseline

if TYPE_CHECKING:
    from pytest_flopguard.formulas.registry import Registry
    from pytest_flopguard.session import Region, Session

_RECORDS = pytest.StashKey[list[Json]]()


class Guard:
    """What the hooks of ``plugin.py`` share."""

    def __init__(self, config: pytest.Config, settings: Settings) -> None:
        self.settings = settings
        # Settings that are named on the command line are meant for every test that is.
        named = bool(config.getoption("inifilename") or config.getoption("rootdir"))
        self.projects = Projects(settings, covers_outside=named)
        self._config = config
        self._session: Session | None = None
        # Called after each op call of a measured test, where somebody looks at a terminal.
        self.tick: Callable[[], None] | None = None
        self.simulation = Simulation.of(config, settings)
        self.baselines = Baselines(
            settings.rootdir,
            Terms(
                torch=installed_version("torch"),
                today=date.today(),
                tolerance=settings.tolerance,
                improvement=settings.improvement,
                strict=settings.strict,
                accepts=frozenset(settings.update),
            ),
            self.projects.tolerance_of,
        )
        self.plans = Plans(config, settings, self.projects, self.baselines)
        self.run = RunRecords(config, settings, self.plans, self.baselines)

    def plan(self, items: Sequence[pytest.Item], complete: bool) -> None:
        """Find the budgets of the collected tests; UsageError with everything that is wrong in them.

        ``complete`` is false where a module could not be imported: its tests are hidden, not gone.
        """
        problems = self.plans.read(items, complete)
        problems |= dict.fromkeys(self._wrong_formulas())
        problems |= dict.fromkeys(self.simulation.problems(self.plans.by_test))
        self.simulation.test_files = frozenset(str(item.path) for item in items)
        if problems:
            raise UsageError(problems)
        if complete:
            self.plans.find_gone()

    def explain(self, nodeid: str) -> list[str]:
        """Return why the tests that a node id names have the limits that they have, one text a test."""
        from pytest_flopguard.reporters import explain

        return [
            explain.render(
                plan,
                self.baselines.of(plan.nodeid),
                measured=self.plans.measures(plan.nodeid),
                strict=self.settings.strict,
            )
            for plan in self.plans.explain(nodeid)
        ]

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
        test = self.plans.test(item)
        completed = False
        early = self.answered_early(item)
        machine = self.simulation.machine(item, self.plans.of(item))
        if early or isinstance(machine, Unavailable):
            reason = machine.reason if isinstance(machine, Unavailable) else early
            failure = early or message("not-simulated", reason=reason)
            region = session.unmeasured(test, wanted, reason)
            self._tell(self._keep(item, self._judge(item, region, completed)))
            pytest.fail(failure, pytrace=False)
        sites = self.baselines.has_memory(test)
        # A test whose numbers nobody asked for runs compiled functions compiled, as it would without the guard.
        asked = bool(wanted) or self.baselines.has(test) or bool(self.settings.update or self.settings.why)
        measuring = session.measure(test, "", wanted, sites=sites, compiled=not asked)
        try:
            with session.on(machine) if machine else nullcontext(), measuring as region:
                result = yield
            completed = True
        finally:
            records = self._keep(item, self._judge(item, region, completed))
            if not completed:
                note_as_written(item, session.ran_as_written)
            # Here, and not on the report: a JUnit file takes them from what the item has before its report is made.
            others = [each for each in item.user_properties if not each[0].startswith((f"{PREFIX}.", f"{PREFIX}["))]
            item.user_properties[:] = [*others, *properties(records)]
        self._tell(records)
        return result

    def setup_fixture(self, item: pytest.Item) -> AbstractContextManager[None]:
        """Return the surroundings in which a fixture of one test is to be set up."""
        return self.simulation.fixture(item, self.plans.of(item)) if self.plans.may_watch(item) else nullcontext()

    def around_setup(self, item: pytest.Item, *, shared: bool = False) -> AbstractContextManager[None]:
        """Return the context for a test's skip conditions, or for a fixture that it shares with others."""
        return self.simulation.asked_for(self._gpu(item), shared=shared)

    def answered_early(self, item: pytest.Item) -> str:
        """Return the message on answers about CUDA that a test may rely on and that are not its device's."""
        return self.simulation.answered_early(item, self._gpu(item))

    def wrongly_skipped(self, item: pytest.Item) -> str:
        """Return that message for a skipped test that is to run on a simulated GPU; empty if its mark asks nothing."""
        gpu = self._gpu(item)
        unconditional = any(mark.name == "skip" for mark in getattr(getattr(item, "obj", None), "pytestmark", ()))
        return "" if unconditional or not gpu else self.simulation.answered_early(item, gpu, skipped=True)

    def _gpu(self, item: pytest.Item) -> str:
        return self.simulation.gpu(self.plans.of(item)) if self.plans.may_watch(item) else ""

    @staticmethod
    def records_of(item: pytest.Item) -> list[Json]:
        """Return the records of a test's last call as plain JSON, the same list for every call."""
        return item.stash.setdefault(_RECORDS, [])

    def _keep(self, item: pytest.Item, records: list[Record]) -> list[Record]:
        # In place: a plugin may call a test again and report that attempt by the first one's report.
        self.records_of(item)[:] = [record_to_json(each) for each in records]
        return records

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
        return Origin(path=self.plans.relative(path), line=line)

    def _expectations(self, item: pytest.Item, session: Session) -> Iterator[Expectation]:
        plan = self.plans.of(item)
        if plan is not None:
            yield from plan.expectations
        for more in item.ihook.pytest_flopguard_expectations(item=item):
            yield from more
        if session.counts_regions and self.plans.is_guarded(item):
            yield session.no_unknown_ops()

    def _judge(self, item: pytest.Item, whole: Region, completed: bool) -> list[Record]:
        fixture = getattr(item, "funcargs", {}).get(FIXTURE)
        regions = fixture.regions if isinstance(fixture, FlopGuard) else []
        records = [whole.record(), *(each.record() for each in regions)]
        if not self.plans.is_guarded(item) and not _did_work(records[0]):
            return []
        records = without_baseline(item, [replace(each, complete=completed) for each in records])
        records = self.baselines.hold(records)
        for record in records:
            item.ihook.pytest_flopguard_measured(item=item, record=record)
        return records

    def _tell(self, records: list[Record]) -> None:
        fail_or_warn(records, verbosity=self._config.get_verbosity(), accepts=bool(self.settings.update))


def _did_work(record: Record) -> bool:
    tally = record.measurement.flops
    return bool(record.findings) or (tally is not None and (tally.known > 0 or bool(tally.unknown_ops)))
