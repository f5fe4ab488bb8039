"""``--flop-explain`` finds a test by the names that pytest takes, whatever addopts say, and runs nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest

Project = Callable[..., pytest.Pytester]
BUDGET = '@pytest.mark.flop_budget(flops=1)\ndef test_a(): raise AssertionError("must not run")\n'


@pytest.mark.slow
def test_it_runs_in_one_process_whatever_addopts_say(project: Project) -> None:
    pytester = project(BUDGET, '[tool.pytest.ini_options]\naddopts = "-n 2"\n')
    result = pytester.runpytest_subprocess("--flop-explain", "test_model.py::test_a")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["test_model.py::test_a", "*FLOPs", "*at most 1 FLOP"])


@pytest.mark.parametrize("name", ["test_model.py::test_a", "sub/test_model.py::test_a", "test_model.py", ".", "sub"])
def test_names_start_where_pytest_was_started_or_at_the_root(
    project: Project, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    project(BUDGET)
    folder = pytester.mkdir("sub")
    (pytester.path / "test_model.py").rename(folder / "test_model.py")
    monkeypatch.chdir(folder)
    result = pytester.runpytest_inprocess("--flop-explain", name)
    assert result.ret == 0
    result.stdout.fnmatch_lines(["sub/test_model.py::test_a", "*FLOPs"])


def test_an_absolute_path_names_a_test(project: Project) -> None:
    pytester = project(BUDGET)
    result = pytester.runpytest_inprocess("--flop-explain", f"{pytester.path}/test_model.py::test_a")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["test_model.py::test_a"])


def test_what_is_not_there_names_the_nearest(project: Project) -> None:
    result = project(BUDGET).runpytest_inprocess("--flop-explain", "test_modle.py::test_a")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        ["ERROR: --flop-explain: no collected test is 'test_modle.py::test_a'; did you mean 'test_model.py::test_a'?"]
    )
