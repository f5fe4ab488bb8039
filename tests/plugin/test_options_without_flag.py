"""Each option of the command line turns the guard on by itself, or is an error: none is silently without effect."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pytest_flopguard.budgets.options import OPTIONS

Project = Callable[..., pytest.Pytester]
Run = Callable[..., pytest.RunResult]

USAGE = pytest.ExitCode.USAGE_ERROR
FLAGS = {each.name: each.flag for each in OPTIONS if each.flag} | {"explain": "--flop-explain"}
# A value for each option that asks for something, and how the run ends with it.
ASKS: dict[str, tuple[str, int]] = {
    "enabled": ("", 0),
    "measure": ("all", 0),
    "engine": ("dispatch", 0),
    "cross-check": ("fvcore", 0),
    "bytes-moved": ("", 0),
    "device": ("auto", 0),
    "strict": ("", 1),  # it has no baseline
    "update": ("new", 0),
    "reason": ("no change", USAGE),  # there is nothing that it is the reason for
    "update-in-ci": ("", USAGE),  # there is nothing to write
    "why": ("", 0),
    "report": ("run.json", 0),
    "explain": ("test_model.py::test_a", 0),
}


@pytest.fixture(autouse=True)
def _no_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)


def flag(name: str) -> str:
    value, _ = ASKS[name]
    return f"{FLAGS[name]}={value}" if value else FLAGS[name]


def test_every_option_is_here() -> None:
    assert set(ASKS) == set(FLAGS)


@pytest.mark.parametrize("name", ASKS)
def test_an_option_alone_turns_the_guard_on_or_is_an_error(name: str, project: Project, run: Run) -> None:
    project("def test_a(): forward()\n")
    result = run(flag(name))
    assert result.ret == ASKS[name][1]
    if result.ret != USAGE:
        result.stdout.fnmatch_lines(["flopguard *: on, *"])
    else:
        result.stderr.fnmatch_lines(["*command line: *"])


@pytest.mark.parametrize("name", [each for each in ASKS if each != "enabled"])
def test_an_option_and_the_switch_that_turns_all_off_are_an_error(name: str, project: Project, run: Run) -> None:
    pytester = project("def test_a(): forward()\n")
    result = run("--no-flop-budget", flag(name))
    assert result.ret == USAGE
    result.stderr.fnmatch_lines([f"*command line: {FLAGS[name]} with*--no-flop-budget*"])
    assert not list(pytester.path.glob("run.json")) + list(pytester.path.glob("__flopguard__"))


def test_options_of_addopts_give_way_to_the_switch(project: Project, run: Run) -> None:
    pytester = project(
        "def test_a(): forward()\n", '[tool.pytest.ini_options]\naddopts = "--flop-budget --flop-report=run.json"\n'
    )
    run("--no-flop-budget").assert_outcomes(passed=1)
    assert not (pytester.path / "run.json").exists()
    # Nothing runs, so there is nothing to report.
    assert run("--flop-explain=test_model.py::test_a").ret == 0
    assert not (pytester.path / "run.json").exists()
    run().assert_outcomes(passed=1)
    assert (pytester.path / "run.json").exists()


@pytest.mark.parametrize("name", ["update", "why", "report"])
def test_explaining_runs_nothing_that_an_option_could_be_for(name: str, project: Project, run: Run) -> None:
    project("def test_a(): forward()\n")
    result = run("--flop-explain=test_model.py::test_a", flag(name))
    assert result.ret == USAGE
    result.stderr.fnmatch_lines([f"*{FLAGS[name]} with --flop-explain: it runs no test*bad-options*"])


def test_an_option_of_another_plugin_turns_nothing_on(project: Project, run: Run) -> None:
    project("def test_a(): forward()\n")
    assert "flopguard 0" not in run("--no-flop-bytes", "-k", "test_a").stdout.str()


def test_a_test_that_is_asked_about_and_was_not_measured_is_an_error(project: Project, run: Run) -> None:
    project("def test_a(): forward()\n")
    result = run("--flop-why=test_model.py::test_b")
    assert result.ret == USAGE
    result.stdout.fnmatch_lines(["*--flop-why: no measured test is 'test_model.py::test_b'*"])


ENABLED = "[tool.flopguard]\nenabled = true\n"


@pytest.mark.parametrize("root", ["", "[tool.flopguard]\nenabled = false\n"])
@pytest.mark.parametrize("below", [ENABLED, "[tool]\nflopguard = { enabled = true }\n"])
def test_a_project_below_the_root_that_is_on_is_never_silently_off(
    root: str, below: str, pytester: pytest.Pytester, run: Run
) -> None:
    tests = pytester.mkdir("enc") / "tests"
    tests.mkdir()
    (tests / "test_e.py").write_text("def test_e(): pass\n")
    (pytester.path / "enc" / "pyproject.toml").write_text(below)
    pytester.makepyprojecttoml(root + "[tool.pytest.ini_options]\n")
    result = run()
    assert result.ret == USAGE
    result.stderr.fnmatch_lines(["*enc/pyproject.toml:2: enabled = True*--flop-budget*run-wide-setting*"])
    run("--flop-budget").assert_outcomes(passed=1)
    run("--no-flop-budget").assert_outcomes(passed=1)


def test_a_file_around_the_root_that_is_on_is_named(pytester: pytest.Pytester, run: Run) -> None:
    pytester.makepyprojecttoml(ENABLED)
    tests = pytester.mkdir("tests")
    (tests / "pytest.ini").write_text("[pytest]\n")
    (tests / "test_a.py").write_text("def test_a(): pass\n")
    result = run("tests")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["flopguard *: off, though ../pyproject.toml:2 turns it on*--rootdir"])


@pytest.mark.slow
def test_a_worker_that_finds_such_a_project_ends_the_run(pytester: pytest.Pytester) -> None:
    enc = pytester.mkdir("enc")
    (enc / "test_e.py").write_text("def test_e(): pass\n")
    (enc / "pyproject.toml").write_text(ENABLED)
    pytester.makepyprojecttoml("[tool.pytest.ini_options]\n")
    result = pytester.runpytest_subprocess("-n", "2")
    assert result.ret == USAGE
    result.stdout.fnmatch_lines(["*enc/pyproject.toml:2: enabled = True*run-wide-setting*"])
