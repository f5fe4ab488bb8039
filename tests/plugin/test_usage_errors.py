"""What a person wrote wrong is told all at once, before any test runs."""

from __future__ import annotations

from collections.abc import Callable

import pytest

Project = Callable[..., pytest.Pytester]
Run = Callable[..., pytest.RunResult]

WRONG = """
@pytest.mark.flop_budget(flopz="1 kFLOP")
def test_a(): raise AssertionError("must not run")

@pytest.mark.flop_budget(flops="1 GFLOPS")
def test_b(): raise AssertionError("must not run")
"""


def test_all_mistakes_of_markers_and_budgets_at_once(project: Project, run_both: Run) -> None:
    project(WRONG, '[tool.flopguard.budgets."test_model.py::test_c"]\nflops = 1\n')
    result = run_both("--flop-budget")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    text = result.stdout.str() + result.stderr.str()
    assert "flopguard found 3 problem(s)" in text
    assert "test_model.py:9: unknown budget quantity 'flopz'; did you mean 'flops'? [unknown-quantity]" in text
    assert "test_model.py:12: flops = '1 GFLOPS': 'GFLOPS' is a rate" in text
    assert "pyproject.toml:1: the budget 'test_model.py::test_c' matches no test" in text
    assert "must not run" not in text


def test_all_mistakes_of_settings_at_once(project: Project, run_both: Run) -> None:
    project(
        "def test_a(): raise AssertionError('must not run')",
        '[tool.flopguard]\natention = "dense"\nunknown-ops = "eror"\nattention = "casual"\n',
    )
    result = run_both()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    text = result.stdout.str() + result.stderr.str()
    assert "pyproject.toml:2: unknown setting 'atention'; did you mean 'attention'? [unknown-setting]" in text
    assert "pyproject.toml:3: unknown-ops = 'eror'" in text
    assert "pyproject.toml:4: attention = 'casual': expected \"dense\" or \"causal\"; did you mean 'causal'?" in text
    assert "must not run" not in text


def test_mistakes_of_settings_stand_in_the_order_of_the_file(project: Project, run: Run) -> None:
    project(
        "def test_a(): pass",
        '[tool.flopguard]\nunknown-ops = "eror"\natention = "dense"\n'
        '[tool.flopguard.default-budget]\nflops = "1 GFLOPS"\npeak-memory = { gpu = "1 MiB" }\n',
    )
    lines = run("--flop-measure=some").stderr.str().splitlines()
    told = [line.partition(" ")[0] for line in lines if line.startswith(("pyproject", "command"))]
    assert told == ["command", *(f"pyproject.toml:{line}:" for line in (2, 3, 5, 6))]
    assert "pyproject.toml:6: unknown device key 'gpu'; did you mean 'cuda'? [unknown-device]" in lines


UNMATCHED = '[tool.flopguard.budgets."test_other.py::test_gone"]\nflops = 1\n'


@pytest.mark.parametrize(
    ("args", "complains"),
    [
        ((), True),  # a full run
        (("-k", "test_a"), True),  # deselected tests were collected all the same
        (("test_model.py",), False),  # the other file was not collected
        (("test_other.py",), True),
        (("test_other.py::test_here",), False),  # not all of that file was
        (("--lf",), False),  # pytest itself skips files there
        (("--ignore=test_other.py",), False),
    ],
)
def test_a_budget_is_unmatched_only_where_its_test_had_to_be_collected(
    project: Project, args: tuple[str, ...], complains: bool
) -> None:
    pytester = project("def test_a(): pass", UNMATCHED)
    pytester.makepyfile(test_other="def test_here(): pass")
    result = pytester.runpytest_inprocess("--flop-budget", *args)
    assert (result.ret == pytest.ExitCode.USAGE_ERROR) is complains


def test_a_file_that_is_not_there_is_always_told(project: Project) -> None:
    pytester = project("def test_a(): pass", UNMATCHED)
    assert pytester.runpytest_inprocess("--flop-budget", "test_model.py").ret == pytest.ExitCode.USAGE_ERROR


def test_a_module_that_cannot_be_imported_is_told_first(project: Project) -> None:
    pytester = project("def test_a(): pass", UNMATCHED)
    pytester.makepyfile(test_other="import no_such_module")
    result = pytester.runpytest_inprocess("--flop-budget")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert "no_such_module" in result.stdout.str()


def test_an_unknown_report_format_is_told_before_any_test(project: Project) -> None:
    pytester = project("def test_a(): raise AssertionError('must not run')")
    result = pytester.runpytest_inprocess("--flop-budget", "--flop-report=report.jsn")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*no reporter writes '.jsn' files (report.jsn); did you mean '.json'? *"])


def test_wrong_limits_of_a_region_name_its_line(project: Project) -> None:
    pytester = project(
        """
def test_a(flopguard):
    with flopguard.measure("forward", flopz=1):
        pass
"""
    )
    result = pytester.runpytest_inprocess("--flop-budget")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*test_model.py:10: unknown budget quantity 'flopz'; did you mean 'flops'?*"])
    # The traceback is that of the test: what we and contextlib do inside helps nobody.
    text = result.stdout.str()
    assert '    with flopguard.measure("forward", flopz=1):' in text
    assert [each for each in ("fixture.py", "guard.py", "contextlib.py") if each in text] == []
