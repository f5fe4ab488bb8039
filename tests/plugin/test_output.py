"""``-q``, the default and ``-vv`` say the same with more or fewer words."""

from __future__ import annotations

from collections.abc import Callable

import pytest

Project = Callable[..., pytest.Pytester]

TESTS = """
@pytest.mark.flop_budget(flops=2047)
def test_over(): forward()

@pytest.mark.flop_budget(flops=2048)
def test_met(): forward()
"""


def summary(result: pytest.RunResult) -> str:
    return result.stdout.str().partition("= flopguard =")[2].partition("short test summary")[0]


def test_three_verbosities(project: Project) -> None:
    pytester = project(TESTS)
    quiet, plain, loud = (
        pytester.runpytest_inprocess("--flop-budget", *flags).stdout.str() for flags in (["-q"], [], ["-vv"])
    )
    for text in (quiet, plain, loud):
        assert "over the limit of 2.05 kFLOP by 1 FLOP" in text
    assert "Ways out" not in quiet
    assert "test_met" not in quiet.partition("= flopguard =")[2]
    assert "test_met" in plain.partition("= flopguard =")[2]
    assert "aten.addmm" not in plain
    assert "aten.addmm" in loud
    assert len(quiet) < len(plain) < len(loud)


def test_the_header_says_that_it_is_on(project: Project) -> None:
    result = project(TESTS).runpytest_inprocess("--flop-budget")
    result.stdout.fnmatch_lines(["flopguard *: on, engine dispatch, attention dense*"])


@pytest.mark.parametrize(
    ("pyproject", "told"),
    [
        (None, ", no settings: there is no {}"),
        ("[tool.other]\n", ", no settings in {}"),
        ("[tool.flopguard]\nmeasure = 'all'\n", ""),
        ("[tool.flopguard.default-budget]\nflops = 1\n", ""),
    ],
)
def test_the_header_says_where_no_settings_were_found(
    project: Project, pytester: pytest.Pytester, pyproject: str | None, told: str
) -> None:
    project(TESTS, pyproject or "")
    file = pytester.path / "pyproject.toml"
    if pyproject is None:
        file.unlink()
    lines = pytester.runpytest_inprocess("--flop-budget", f"--rootdir={pytester.path}").stdout.lines
    header = next(line for line in lines if line.startswith("flopguard "))
    assert header.partition(" attention dense")[2] == told.format(file)


def test_settings_that_the_command_line_repeats_are_settings(project: Project) -> None:
    result = project(TESTS, "[tool.flopguard]\nenabled = true\n").runpytest_inprocess("--flop-budget")
    header = next(line for line in result.stdout.lines if line.startswith("flopguard "))
    assert header.endswith(" attention dense")


def test_explain_says_what_holds_and_runs_nothing(project: Project) -> None:
    pytester = project(
        "@pytest.mark.flop_budget(flops=1)\ndef test_a(): raise AssertionError('must not run')",
        '[tool.flopguard.budgets."test_model.py::*"]\nflops = 2\nparameters = 3\n',
    )
    result = pytester.runpytest_inprocess("--flop-explain", "test_model.py::test_a")
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        [
            "test_model.py::test_a",
            "*FLOPs",
            "*marker flop_budget",
            "*test_model.py:8*",
            "*a marker comes before a glob*",
        ]
    )
    result.stdout.fnmatch_lines(["*parameters", "*at most 3", "*pyproject.toml:3*"])


def test_explaining_an_unknown_test_is_a_usage_error(project: Project) -> None:
    result = project("def test_a(): pass").runpytest_inprocess("--flop-explain", "test_model.py::test_b")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
