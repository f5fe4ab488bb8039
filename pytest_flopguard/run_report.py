"""What one run brings together: the records of its tests, the files and tables made of them, and new baselines."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from platform import platform, python_version

import pytest

from pytest_flopguard import pytest_api
from pytest_flopguard.budgets.baselines import Baselines, by_module
from pytest_flopguard.budgets.settings import Settings
from pytest_flopguard.core.baseline_change import Change, cannot_have, not_written
from pytest_flopguard.core.errors import FlopguardError, Problem, UsageError, nearest, problem
from pytest_flopguard.core.record import Record, RunReport, TestOutcome, record_from_json
from pytest_flopguard.core.tested_releases import newer_releases
from pytest_flopguard.core.whole_file import write_whole
from pytest_flopguard.plans import Plans, names
from pytest_flopguard.reporters.absent_devices import absent_devices
from pytest_flopguard.reporters.formats import Reporter, reporter_for
from pytest_flopguard.reporters.paint import Paint


class RunRecords:
    """A plugin that takes the records from test reports, and makes of them what the run was asked for."""

    def __init__(self, config: pytest.Config, settings: Settings, plans: Plans, baselines: Baselines) -> None:
        self._config = config
        self._settings = settings
        self._plans = plans
        self._baselines = baselines
        self._records: dict[str, list[Record]] = {}
        self._reporters: list[tuple[Path, Reporter]] = []
        self._notes: list[str] = []
        self._changes: list[Change] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take the records that came with a test's report, from this process or from a worker."""
        test = {"test": _test_outcome(report)}
        records = [record_from_json(each | test) for each in getattr(report, "flopguard", None) or ()]
        if records:
            # By the test's file: pytest's own node id may be that of a test in another directory too.
            self._records[records[0].nodeid] = records

    def find_reporters(self) -> None:
        """Find the reporter of each report path; UsageError if there is none for one."""
        formats: dict[str, Reporter] = {}
        self._config.hook.pytest_flopguard_reporters(formats=formats)
        origin = self._settings.origin("report")
        self._reporters = [(path, reporter_for(str(path), origin, formats)) for path in self._settings.report]

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
        """Write the baselines that this run was asked to write; UsageError with the files where that failed."""
        if not self._settings.update:
            return
        from pytest_flopguard.budgets.baseline_update import update_module

        tests, vanished = by_module(self._records), self._plans.vanished
        problems: list[Problem] = []
        for module in sorted({*tests, *(module for module, _ in vanished)}):
            gone = [name for each, name in vanished if each == module]
            try:
                self._changes += update_module(
                    self._baselines, module, tests.get(module, {}), gone, self._settings.reason
                )
            except UsageError as error:
                problems += error.problems
        if problems:
            raise UsageError(problems)

    def why(self, verbosity: int) -> Iterator[str]:
        """Yield what differs from the baseline in the tests that ``--flop-why`` names, as one text."""
        from pytest_flopguard.reporters import why

        wanted = self._settings.why
        whole = wanted != "*" or verbosity > 1
        found = [
            why.render(record, verbosity=verbosity, whole=whole)
            for nodeid, records in self._records.items()
            if wanted and (wanted == "*" or names(wanted, nodeid))
            for record in records
        ]
        if found:
            yield ("\n" if verbosity < 0 else "\n\n").join(found)
        elif wanted == "*":
            yield "--flop-why: no test was measured"

    def check_why(self) -> None:
        """Check that the test that ``--flop-why`` names was measured; UsageError."""
        wanted = self._settings.why
        if wanted not in ("", "*") and not any(names(wanted, test) for test in self._records):
            hint = nearest(wanted, self._records)
            reason = f"no measured test is {wanted!r}{hint}"
            raise UsageError([problem("bad-options", "command line", option="--flop-why", reason=reason)])

    def baseline_lines(self) -> list[str]:
        """Return what was written, and which tests were not; empty where no update was asked for."""
        if not self._settings.update:
            return []
        from pytest_flopguard.reporters.baseline_diff import diff_lines

        kept = {nodeid: not_written(tuple(each)) or cannot_have(each[0]) for nodeid, each in self._records.items()}
        reasons = {nodeid: reason for nodeid, reason in kept.items() if reason}
        return list(diff_lines(self._changes, reasons, measured=bool(self._records)))

    def report(self) -> RunReport:
        """Return everything that was collected."""
        records = tuple(record for each in self._records.values() for record in each)
        return RunReport(
            tool={
                "name": "pytest-flopguard",
                "version": installed_version("pytest-flopguard"),
                "engine": self._settings.engine,
            },
            environment={
                "python": python_version(),
                "platform": platform(),
                "torch": installed_version("torch"),
                "pytest": pytest.__version__,
            },
            records=records,
            notes=(*self._notes, *newer_releases(), *absent_devices(records)),
        )


def _test_outcome(report: pytest.TestReport) -> TestOutcome:
    # As pytest's own terminal reporter tells them apart.
    if pytest_api.expected_to_fail(report):
        return "xfailed" if report.skipped else "xpassed"
    return "passed" if report.passed else "skipped" if report.skipped else "failed"


def _rendered(reporter: Reporter, run: RunReport) -> str:
    try:
        return reporter.render(run)
    except Exception as error:
        # It may be anybody's, and its mistake must cost neither the table nor the other files.
        raise FlopguardError(f"{type(error).__name__}: {error}") from error


def installed_version(package: str) -> str:
    """Return the version of an installed package, ``unknown`` where it is not installed."""
    # Not by importing it: the process that reports need not be one that measured.
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"
