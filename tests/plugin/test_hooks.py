"""Each hook does what its docstring says, from a project's conftest.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

Project = Callable[..., pytest.Pytester]
Run = Callable[..., pytest.RunResult]
FORWARD = "def test_forward(): forward()"


def test_expectations_come_beside_the_budgets(project: Project, run: Run) -> None:
    project(FORWARD).makeconftest(
        """
from pytest_flopguard.core.expectation import Expectation, Origin

def pytest_flopguard_expectations(item):
    return [Expectation(quantity="flops", high=2047, origin=Origin(path="house rules"))]
"""
    )
    result = run("--flop-budget")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*house rules*"])


def test_measured_sees_each_judged_record(project: Project, run: Run) -> None:
    project(FORWARD).makeconftest(
        """
def pytest_flopguard_measured(item, record):
    print("seen", item.name, record.measurement.flops.total, record.outcome)
"""
    )
    run("--flop-budget", "-s").stdout.fnmatch_lines(["*seen test_forward 2048 passed*"])


def test_reporters_write_files_of_their_suffix(project: Project, run: Run) -> None:
    pytester = project(FORWARD)
    pytester.makeconftest(
        """
class Csv:
    suffix = ".csv"

    def render(self, run):
        return "".join(f"{each.nodeid},{each.measurement.flops.total}\\n" for each in run.records)

def pytest_flopguard_reporters(formats):
    formats[".csv"] = Csv()
"""
    )
    run("--flop-budget", "--flop-report=report.csv").assert_outcomes(passed=1)
    assert (pytester.path / "report.csv").read_text() == "test_model.py::test_forward,2048\n"


def test_backends_measure_devices_of_their_own(
    project: Project, run: Run, report: Callable[[], dict[str, Any]]
) -> None:
    project('@pytest.mark.flop_budget(peak_memory={"xpu": 6})\n' + FORWARD).makeconftest(
        """
from pytest_flopguard.core.measurement import MemoryPeak

class Fixed:
    name = "fixed"

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        return None

    def begin(self):
        return None

    def end(self, mark):
        return (MemoryPeak(device="xpu", backend=self.name, start_bytes=0, peak_bytes=7),)

def pytest_flopguard_backends(backends):
    backends.memory("xpu", lambda costs, engine: Fixed())
"""
    )
    run("--flop-budget", "--flop-report=report.json").assert_outcomes(failed=1)
    finding = next(each for each in report()["records"][0]["findings"] if each["quantity"] == "peak_memory")
    assert (finding["observed"], finding["device"], finding["status"]) == (7, "xpu", "broken")
