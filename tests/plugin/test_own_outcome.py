"""What pytest made of a test goes with its numbers: a saved report fails nothing that pytest passed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pytest_flopguard.cli import main

Project = Callable[..., pytest.Pytester]
Run = Callable[..., pytest.RunResult]
Report = Callable[[], dict[str, Any]]

EXCUSED = """
@pytest.mark.xfail(strict=True, reason="to be made cheaper")
@pytest.mark.flop_budget(flops=1)
def test_expected(): forward()

@pytest.mark.flop_budget(flops=1)
def test_skipped():
    forward()
    pytest.skip("not here")

@pytest.mark.xfail
@pytest.mark.flop_budget(flops=2048)
def test_better(): forward()
"""
FAILED = """
@pytest.mark.flop_budget(flops=2048)
def test_wrong():
    forward()
    assert False

@pytest.mark.xfail(strict=True)
@pytest.mark.flop_budget(flops=2048)
def test_met(): forward()
"""


def outcomes(report: Report) -> dict[str, str]:
    return {each["nodeid"].partition("::")[2]: each["test"] for each in report()["records"]}


def verdicts(text: str) -> dict[str, str]:
    return {line.split()[0]: line.split()[-1] for line in text.splitlines() if line.startswith("  test_")}


def test_a_saved_report_fails_nothing_that_pytest_passed(
    project: Project, run_both: Run, report: Report, capsys: pytest.CaptureFixture[str]
) -> None:
    project(EXCUSED)
    result = run_both("--flop-budget", "--flop-report=report.json")
    result.assert_outcomes(xfailed=1, skipped=1, xpassed=1)
    assert result.ret == 0
    assert outcomes(report) == {"test_expected": "xfailed", "test_skipped": "skipped", "test_better": "xpassed"}
    capsys.readouterr()
    assert main(["report", "report.json"]) == 0
    for text in (result.stdout.str(), capsys.readouterr().out):
        table = text.rpartition("= flopguard =")[2]
        assert verdicts(table) == {"test_expected": "xfailed", "test_skipped": "skipped", "test_better": "ok"}
        assert "3 measured: 1 ok, 1 xfailed, 1 skipped" in table
    assert main(["report", "report.json", "-q"]) == 0
    assert capsys.readouterr().out == "3 measured: 1 ok, 1 xfailed, 1 skipped\n"


def test_a_test_that_failed_for_another_reason_is_not_ok(
    project: Project, run: Run, report: Report, capsys: pytest.CaptureFixture[str]
) -> None:
    project(FAILED)
    result = run("--flop-budget", "--flop-report=report.json")
    result.assert_outcomes(failed=2)
    assert outcomes(report) == {"test_wrong": "failed", "test_met": "failed"}
    assert verdicts(result.stdout.str().rpartition("= flopguard =")[2]) == {
        "test_wrong": "failed",
        "test_met": "failed",
    }
    capsys.readouterr()
    assert main(["report", "report.json", "-q"]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "failed test_model.py::test_met: not by a budget",
        "failed test_model.py::test_wrong: not by a budget",
        "2 measured: 2 failed",
    ]


def test_regions_within_budget_stay_ok_where_another_broke(project: Project, run: Run) -> None:
    project(
        """
@pytest.mark.flop_budget(flops=4096)
def test_step(flopguard):
    with flopguard.measure("one", flops=2047):
        forward()
    with flopguard.measure("two", flops=2048):
        forward()
"""
    )
    result = run("--flop-budget")
    result.assert_outcomes(failed=1)
    table = result.stdout.str().rpartition("= flopguard =")[2]
    assert [line.split()[-1] for line in table.splitlines() if line.startswith("  test_step")] == ["ok", "OVER", "ok"]
    assert "3 measured: 2 ok, 1 failed" in table
