"""A broken budget is an ordinary failed test: exit code, JUnit, xfail, -x, --lf, under xdist too."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from typing import Any

import pytest

Project = Callable[..., pytest.Pytester]
Run = Callable[..., pytest.RunResult]


@pytest.mark.parametrize(("limit", "outcome"), [(2048, "passed"), (2047, "failed")])
def test_the_limit_passes_and_one_less_fails(project: Project, run_both: Run, limit: int, outcome: str) -> None:
    project(f"@pytest.mark.flop_budget(flops={limit})\ndef test_forward(): forward()")
    result = run_both("--flop-budget")
    result.assert_outcomes(**{outcome: 1})
    assert result.ret == (outcome == "failed")


def test_the_message_names_value_limit_place_ways_out_and_modules(project: Project) -> None:
    pytester = project('@pytest.mark.flop_budget(flops="1 kFLOP")\ndef test_forward():\n    forward()')
    result = pytester.runpytest_inprocess("--flop-budget")
    result.stdout.fnmatch_lines(
        [
            "FLOPs: 2.05 kFLOP, over the limit of 1 kFLOP by 1.05 kFLOP (104.80%) [[]over-budget[]]",
            "*measured*2,048 FLOP",
            "*limit*1,000 FLOP",
            '*test_model.py:8  flops="1 kFLOP"',
            "*100.00%*Linear",
            "*fix*",
            "*accept*",
            "*raise*test_model.py:8*",
        ]
    )


def test_a_limit_in_pyproject_is_named_at_its_line(project: Project) -> None:
    pytester = project(
        "def test_forward(): forward()",
        '[tool.flopguard]\nattention = "dense"\n'
        '[tool.flopguard.budgets."test_model.py::test_forward"]\nflops = 2_047\n',
    )
    result = pytester.runpytest_inprocess("--flop-budget")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*pyproject.toml:4  flops = 2_047"])


def test_without_a_budget_a_number_comes_first(project: Project, run: Run) -> None:
    project("def test_forward(): forward()")
    result = run("--flop-budget")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*2.05 kFLOP*no budget"])


def test_the_users_own_failure_goes_first(
    project: Project, run_both: Run, report: Callable[[], dict[str, Any]]
) -> None:
    project('@pytest.mark.flop_budget(flops=1)\ndef test_forward():\n    forward()\n    assert "mine" == "theirs"')
    result = run_both("--flop-budget", "--flop-report=report.json")
    result.assert_outcomes(failed=1)
    assert "over-budget" not in result.stdout.str().partition("FAILURES")[2].partition("= flopguard =")[0]
    # What was seen is still told in the report.
    assert report()["records"][0]["outcome"] == "failed"


def test_strict_xfail_expects_a_broken_budget(project: Project, run_both: Run) -> None:
    project(
        """
@pytest.mark.xfail(strict=True)
@pytest.mark.flop_budget(flops=2047)
def test_over(): forward()

@pytest.mark.xfail(strict=True)
@pytest.mark.flop_budget(flops=2048)
def test_met(): forward()
"""
    )
    run_both("--flop-budget").assert_outcomes(xfailed=1, failed=1)


def test_junit_says_failure(project: Project, run_both: Run) -> None:
    pytester = project("@pytest.mark.flop_budget(flops=1)\ndef test_forward(): forward()")
    run_both("--flop-budget", "--junitxml=junit.xml")
    suite = ElementTree.parse(pytester.path / "junit.xml").getroot()[0]
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("1", "1", "0")
    failure = suite.find("testcase/failure")
    assert failure is not None
    assert "over the limit of 1 FLOP" in (failure.text or "")


def test_x_stops_and_lf_repeats(project: Project) -> None:
    pytester = project(
        """
def test_a(): forward()

@pytest.mark.flop_budget(flops=1)
def test_b(): forward()

def test_c(): forward()
"""
    )
    pytester.runpytest_inprocess("--flop-budget", "-x").assert_outcomes(passed=1, failed=1)
    pytester.runpytest_inprocess("--flop-budget", "--lf").assert_outcomes(failed=1)


def test_parametrized_classes_and_unittest(project: Project, run: Run) -> None:
    project(
        """
import unittest

@pytest.mark.parametrize("rows", [16, 17])
@pytest.mark.flop_budget(flops=2048)
def test_rows(rows): nn.Linear(8, 8)(torch.zeros(rows, 8))      # 17 rows: 2 * 17 * 64 = 2,176

@pytest.mark.flop_budget(flops=2047)
class TestClass:
    def test_over(self): forward()

    @pytest.mark.flop_budget(flops=2048)
    def test_own_budget_is_closer(self): forward()

class TestCase(unittest.TestCase):
    @pytest.mark.flop_budget(flops=2047)
    def test_over(self): forward()
"""
    )
    run("--flop-budget").assert_outcomes(passed=2, failed=3)


def test_a_warning_does_not_fail(project: Project, run: Run) -> None:
    project('@pytest.mark.flop_budget(flops=1, severity="warn")\ndef test_forward(): forward()')
    result = run("--flop-budget")
    result.assert_outcomes(passed=1, warnings=1)
    result.stdout.fnmatch_lines(["*FlopguardWarning: FLOPs: 2.05 kFLOP, over the limit of 1 FLOP*"])


def test_a_warning_does_not_fail_where_warnings_are_errors(project: Project, pytester: pytest.Pytester) -> None:
    project(
        '@pytest.mark.flop_budget(flops=1, severity="warn")\ndef test_forward(): forward()',
        '[tool.pytest.ini_options]\nfilterwarnings = ["error"]\n',
    )
    result = pytester.runpytest_inprocess("--flop-budget")
    result.assert_outcomes(passed=1, warnings=1)
    result.stdout.fnmatch_lines(["*FlopguardWarning: FLOPs: 2.05 kFLOP, over the limit of 1 FLOP*"])


def test_a_warning_can_be_silenced(project: Project, pytester: pytest.Pytester) -> None:
    project('@pytest.mark.flop_budget(flops=1, severity="warn")\ndef test_forward(): forward()')
    result = pytester.runpytest_inprocess("-W", "ignore", "--flop-budget")
    result.assert_outcomes(passed=1, warnings=0)


def test_regions_have_rows_and_limits_of_their_own(
    project: Project, run_both: Run, report: Callable[[], dict[str, Any]]
) -> None:
    project(
        """
def test_step(flopguard):
    model = nn.Linear(8, 8)
    with flopguard.measure("forward") as fwd:
        loss = model(torch.zeros(16, 8)).sum()
    with flopguard.measure("backward", flops=2047) as bwd:
        loss.backward()
    assert (fwd.flops.total, bwd.flops.backward) == (2048, 2048)
    assert fwd.parameters.count == 8 * 8 + 8
"""
    )
    result = run_both("--flop-budget", "--flop-report=report.json")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*in region 'backward'*", "*test_model.py:13*"])
    rows = [(each["label"], each["flops"]["total"], each["outcome"]) for each in report()["records"]]
    assert rows == [("", 4096, "passed"), ("forward", 2048, "passed"), ("backward", 2048, "failed")]


def test_a_region_is_read_after_it_ended(project: Project) -> None:
    pytester = project(
        """
def test_early(flopguard):
    with flopguard.measure("forward") as fwd:
        fwd.flops
"""
    )
    result = pytester.runpytest_inprocess("--flop-budget")
    result.stdout.fnmatch_lines(["*FlopguardError: the region 'forward' has not ended*"])


def test_limits_on_memory_and_parameters(project: Project, run: Run) -> None:
    # weight 8*8*4 = 256, bias 8*4 = 32, input 16*8*4 = 512, output 16*8*4 = 512: 1,312 bytes at the peak.
    # 8*8 + 8 = 72 parameters of 4 bytes: 288.
    project(
        """
@pytest.mark.flop_budget(peak_memory={"cpu": 1312, "cuda": "1 MiB"}, parameters=72, parameter_bytes=288)
def test_met(): forward()

@pytest.mark.flop_budget(peak_memory=1311)
def test_memory(): forward()

@pytest.mark.flop_budget(parameters=71)
def test_parameters(): forward()
"""
    )
    result = run("--flop-budget")
    result.assert_outcomes(passed=1, failed=2)


def test_a_limit_for_an_absent_device_is_undecided_and_said(
    project: Project, run: Run, report: Callable[[], dict[str, Any]]
) -> None:
    project('@pytest.mark.flop_budget(peak_memory={"xpu": "1 MiB"})\ndef test_forward(): forward()')
    result = run("--flop-budget", "--flop-report=report.json")
    result.assert_outcomes(passed=1)
    assert report()["records"][0]["outcome"] == "undecided"
    result.stdout.fnmatch_lines(["*device-absent*"])


def test_a_crash_leaves_nothing_behind(project: Project) -> None:
    pytester = project(
        """
from torch.nn.modules import module
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

class Broken(nn.Module):
    def forward(self, x):
        raise ValueError("mine")

def test_crash(flopguard):
    with flopguard.measure("forward"):
        Broken()(torch.zeros(1))

def teardown_module():
    assert not _get_current_dispatch_mode_stack()
    assert not module._global_forward_hooks and not module._global_forward_pre_hooks
"""
    )
    result = pytester.runpytest_inprocess("--flop-budget")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["E*ValueError: mine"])
