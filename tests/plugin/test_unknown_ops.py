"""An op that has no formula fails a guarded test, and the message holds the lines that register one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

Project = Callable[..., pytest.Pytester]
Run = Callable[..., pytest.RunResult]

# The op doubles a tensor: its formula says one FLOP for each element.
CUSTOM = """
if not hasattr(torch.ops.mylib, "double"):  # runs of one process share torch's registry
    library = torch.library.Library("mylib", "DEF")
    library.define("double(Tensor x) -> Tensor")
    library.impl("double", lambda x: x * 2, "CPU")
    torch.mylib_library = library  # it lives as long as torch does
double = torch.ops.mylib.double

@pytest.mark.flop_budget(flops="1 kFLOP")
def test_double(): double(torch.zeros(4, 8))
"""
FORMULA = """
def pytest_flopguard_formulas(registry):
    @registry.op("mylib.double")
    def double(x):
        '''One multiplication for each element.'''
        return x.numel
"""


def test_it_fails_with_name_shapes_and_the_lines_to_paste(project: Project, run: Run) -> None:
    project(CUSTOM)
    result = run("--flop-budget")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "*mylib.double(float32[[]4, 8[]])*",
            "*def pytest_flopguard_formulas(registry):",
            '*@registry.op("mylib.double")',
        ]
    )


def test_the_hook_makes_it_known(project: Project, run_both: Run, report: Callable[[], dict[str, Any]]) -> None:
    project(CUSTOM).makeconftest(FORMULA)
    run_both("--flop-budget", "--flop-report=report.json").assert_outcomes(passed=1)
    assert report()["records"][0]["flops"]["total"] == 32  # 4 * 8


def test_the_setting_warns_instead_and_a_limit_stays_undecided(
    project: Project, report: Callable[[], dict[str, Any]]
) -> None:
    pytester = project(
        CUSTOM + "\n@pytest.mark.flop_budget\ndef test_no_limit(): double(torch.zeros(4, 8))\n",
        '[tool.flopguard]\nunknown-ops = "warn"\n',
    )
    result = pytester.runpytest_inprocess("-W", "default", "--flop-budget", "--flop-report=report.json")
    # Without a limit nothing is left open but the warning; a limit cannot be decided and never passes.
    result.assert_outcomes(passed=1, failed=1, warnings=1)
    assert [each["outcome"] for each in report()["records"]] == ["failed", "undecided"]
    assert report()["records"][0]["flops"]["total"] is None


def test_nobody_asked_so_it_does_not_fail(project: Project, run: Run) -> None:
    project(CUSTOM.replace('@pytest.mark.flop_budget(flops="1 kFLOP")\n', ""))
    result = run("--flop-budget")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["ops without a formula: mylib.double x1"])
    # As few words as may be still name the op.
    quiet = run("--flop-budget", "-q").stdout.str()
    assert "ops without a formula: mylib.double x1\n1 measured: 1 without a budget\n" in quiet


@pytest.mark.parametrize(
    ("before", "settings", "outcome"),
    [
        ("@pytest.mark.flop_budget\n", "", "failed"),
        ("@pytest.mark.usefixtures('flopguard')\n", "", "failed"),
        ("", '[tool.flopguard.budgets."test_model.py::*"]\nparameters = 1000\n', "failed"),
        # A budget for all tests is nobody's word on this one.
        ("", "[tool.flopguard.default-budget]\nparameters = 1000\n", "passed"),
        ("", "", "passed"),
    ],
)
def test_only_guarded_tests_fail(project: Project, run: Run, before: str, settings: str, outcome: str) -> None:
    body = CUSTOM.replace('@pytest.mark.flop_budget(flops="1 kFLOP")\n', before)
    project(body.replace("double(torch.zeros(4, 8))", "forward(), double(torch.zeros(4, 8))"), settings)
    run("--flop-budget").assert_outcomes(**{outcome: 1})


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return -1", "returned -1: expected a non-negative int"),
        ("return 1.5", "returned 1.5: expected a non-negative int"),
        ("return True", "returned True: expected a non-negative int"),
        ("raise KeyError('k')", "raised KeyError: 'k'"),
    ],
)
def test_a_wrong_formula_names_itself_and_the_op(project: Project, body: str, message: str) -> None:
    pytester = project(CUSTOM)
    pytester.makeconftest(FORMULA.replace("return x.numel", body))
    result = pytester.runpytest_inprocess("--flop-budget")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([f"*conftest*double*mylib.double {message}*"])


def test_a_second_formula_for_an_op_is_refused_before_any_test(project: Project, run_both: Run) -> None:
    pytester = project("def test_a(): raise AssertionError('must not run')")
    pytester.makeconftest(FORMULA.replace("mylib.double", "aten.mm"))
    result = run_both("--flop-budget")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    text = result.stdout.str() + result.stderr.str()
    assert "flopguard found 1 problem(s)" in text
    assert "pytest_flopguard_formulas: aten.mm has two formulas: " in text
    assert "must not run" not in text


def test_reading_the_formulas_imports_no_torch(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(FORMULA)
    pytester.makepyfile("import sys\n\ndef test_plain():\n    assert 'torch' not in sys.modules\n")
    pytester.runpytest_subprocess("--flop-budget").assert_outcomes(passed=1)
