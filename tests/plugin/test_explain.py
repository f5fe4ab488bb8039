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


def test_it_shows_the_baselines_of_a_test_and_its_regions(
    project: Project, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CI", raising=False)
    project("def test_a(flopguard):\n    with flopguard.measure('forward'):\n        forward()\n")
    assert pytester.runpytest_inprocess("--flop-update=new").ret == 0
    result = pytester.runpytest_inprocess("--flop-explain=test_model.py::test_a")
    # 2 * 16 * 8 * 8 = 2,048 FLOPs; 8 * 8 weights and 8 biases.
    result.stdout.fnmatch_lines(
        [
            "test_model.py::test_a",
            "  baseline",
            "    accepted  FLOPs: 2.05 kFLOP",
            "    accepted  parameters: 72",
            "    accepted  peak memory on cpu: *",
            "           __flopguard__/test_model.toml:*",
            "  baseline of region forward",
            "    accepted  FLOPs: 2.05 kFLOP",
            "           __flopguard__/test_model.toml:*",
        ]
    )
    result.stdout.no_fnmatch_line("*passes*")


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ([], "  no budget and no baseline: it is measured and passes"),
        (["--flop-strict"], "  no budget and no baseline: it fails if it uses torch, because strict is on"),
        (["--flop-measure=guarded"], '  not measured: with measure = "guarded" only tests with a budget, *'),
    ],
)
def test_a_test_without_limits_is_explained_by_the_settings(project: Project, options: list[str], line: str) -> None:
    result = project("def test_a(): pass\n").runpytest_inprocess("--flop-explain=test_model.py::test_a", *options)
    result.stdout.fnmatch_lines(["test_model.py::test_a", line])


def test_default_limits_do_not_apply_to_tests_that_are_not_measured(project: Project) -> None:
    pytester = project("def test_a(): pass\n", "[tool.flopguard.default-budget]\nflops = 1\n")
    result = pytester.runpytest_inprocess("--flop-explain=test_model.py::test_a", "--flop-measure=guarded")
    result.stdout.fnmatch_lines(["test_model.py::test_a", "  not measured: *"])
    result.stdout.no_fnmatch_line("*holds*")
