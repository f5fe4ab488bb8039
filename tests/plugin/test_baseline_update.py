"""--flop-update writes what was asked for and nothing else, alone, under -n 2, and beside another run."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest

from pytest_flopguard.budgets.baseline_file import BaselineFile, read_baselines

Project = Callable[..., pytest.Pytester]
Run = Callable[..., pytest.RunResult]

TESTS = """
def test_a(): forward()

def test_b(): forward()
"""
# Twice the work: 2 * 2,048.
TWICE = "def test_a(): forward(), forward()\n\ndef test_b(): forward()\n"


@pytest.fixture(autouse=True)
def _no_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)


@pytest.fixture
def kept(pytester: pytest.Pytester) -> Callable[[], BaselineFile]:
    """Read the baseline file of test_model.py."""
    return lambda: read_baselines(pytester.path / "__flopguard__" / "test_model.toml", "kept")


Kept = Callable[[], BaselineFile]


def totals(file: BaselineFile) -> dict[str, int | None]:
    return {f"{test} {region}".rstrip(): each.total for (test, region), each in file.entries.items()}


def test_without_an_update_nothing_is_written_and_a_hint_is_given(project: Project, run: Run) -> None:
    pytester = project(TESTS)
    result = run("--flop-budget")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["flopguard: no baseline yet (--flop-update=new writes one)"])
    assert not (pytester.path / "__flopguard__").exists()


def test_new_adds_and_never_alters(project: Project, run: Run, kept: Kept) -> None:
    pytester = project("def test_a(): forward()\n")
    first = run("--flop-update=new")
    first.assert_outcomes(passed=1)
    first.stdout.fnmatch_lines(["__flopguard__/test_model.toml", "*new*test_a*", "*FLOPs: 2.05 kFLOP"])
    assert totals(kept()) == {"test_a": 2048}
    before = kept().texts["test_a", ""]
    pytester.makepyfile(test_model=pytester.path.joinpath("test_model.py").read_text().split("def test_a")[0] + TWICE)
    second = run("--flop-update=new")
    # The dearer test fails, as in any run; the new one is added.
    second.assert_outcomes(passed=1, failed=1)
    assert totals(kept()) == {"test_a": 2048, "test_b": 2048}
    assert kept().texts["test_a", ""] == before


def test_changed_takes_what_broke_with_its_reason_and_the_next_run_is_green(
    project: Project, run: Run, kept: Kept
) -> None:
    project(TESTS)
    run("--flop-update=new").assert_outcomes(passed=2)
    untouched = kept().texts["test_b", ""]
    project(TWICE)
    run("--flop-budget").assert_outcomes(passed=1, failed=1)
    accepted = run("--flop-update=changed", "--flop-reason", "two passes, #812")
    accepted.assert_outcomes(passed=2)
    accepted.stdout.fnmatch_lines(
        ["*changed*test_a", "*FLOPs: 2,048 FLOP -> 4,096 FLOP (+100.00%)", "*reason: two passes, #812"]
    )
    entry = kept().entries["test_a", ""]
    assert (entry.total, entry.reason, entry.was["flops"]) == (4096, "two passes, #812", 2048)
    assert kept().texts["test_b", ""] == untouched
    run("--flop-budget").assert_outcomes(passed=2)


def test_only_tests_that_ran_are_touched(project: Project, run: Run, kept: Kept) -> None:
    project(TESTS)
    run("--flop-update=new", "-k", "test_b")
    assert totals(kept()) == {"test_b": 2048}
    run("--flop-update=new", "test_model.py::test_a")
    assert totals(kept()) == {"test_a": 2048, "test_b": 2048}
    project("def test_a(): forward(), forward()\n\ndef test_b(): forward(), forward()\n")
    run("--flop-update=changed", "--flop-reason=x", "-k", "test_b").assert_outcomes(passed=1, deselected=1)
    assert totals(kept()) == {"test_a": 2048, "test_b": 4096}


def test_trim_locks_a_win_in_and_leaves_losses(project: Project, run: Run, kept: Kept) -> None:
    project("def test_a(): forward(), forward()\n\ndef test_b(): forward()\n")
    run("--flop-update=new")
    project("def test_a(): forward()\n\ndef test_b(): forward(), forward()\n")
    result = run("--flop-budget")
    result.assert_outcomes(passed=1, failed=1, warnings=1)
    result.stdout.fnmatch_lines(["*warn: FLOPs: 2.05 kFLOP, under the baseline of 4.1 kFLOP by*"])
    run("--flop-update=trim").assert_outcomes(passed=1, failed=1)
    assert totals(kept()) == {"test_a": 2048, "test_b": 2048}


def test_a_win_may_be_an_error(project: Project, run: Run) -> None:
    for improvement, outcomes in (
        ("error", {"failed": 1}),
        ("ignore", {"passed": 1}),
        ("warn", {"passed": 1, "warnings": 1}),
    ):
        project("def test_a(): forward(), forward()\n")
        run("--flop-update=new")
        project("def test_a(): forward()\n", f'[tool.flopguard]\nimprovement = "{improvement}"\n')
        run("--flop-budget").assert_outcomes(**outcomes)


@pytest.mark.parametrize("asked", ["--flop-update=new", "--flop-update=trim"])
def test_in_ci_nothing_is_written(project: Project, run: Run, monkeypatch: pytest.MonkeyPatch, asked: str) -> None:
    pytester = project(TESTS)
    monkeypatch.setenv("CI", "true")
    result = run(asked)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--flop-update: CI is set, and nothing that CI runs may move a baseline*bad-update*"])
    assert not (pytester.path / "__flopguard__").exists()


def test_in_ci_it_can_be_forced_and_ci_false_is_no_ci(
    project: Project, run: Run, kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    project("def test_a(): forward()\n")
    monkeypatch.setenv("CI", "false")
    run("--flop-update=new").assert_outcomes(passed=1)
    project(TESTS)
    monkeypatch.setenv("CI", "1")
    run("--flop-update=new", "--flop-update-in-ci").assert_outcomes(passed=2)
    assert totals(kept()) == {"test_a": 2048, "test_b": 2048}


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--flop-update=changed"], "--flop-update=changed: needs a reason"),
        (["--flop-update=changed", "--flop-reason=  "], "--flop-update=changed: needs a reason"),
        (["--flop-update=new", "--flop-reason=x"], "--flop-reason: goes with --flop-update=changed only"),
        (["--flop-budget", "--flop-reason=x"], "--flop-reason: goes with --flop-update=changed only"),
        (["--flop-update=nwe"], '--flop-update = [\'nwe\']: expected a list of "new", "changed" and "trim"*'),
    ],
)
def test_what_is_asked_wrongly_runs_nothing(project: Project, run: Run, flags: list[str], told: str) -> None:
    project(TESTS)
    result = run(*flags)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert re.search(re.escape(told.removesuffix("*")), result.stderr.str())


def test_a_test_that_fails_is_no_baseline(project: Project, run: Run, kept: Kept) -> None:
    project(
        TESTS
        + """
def test_broken():
    forward()
    assert False

@pytest.mark.flop_budget(flops=1)
def test_over(): forward()

def test_skipped():
    forward()
    pytest.skip("half way")

@pytest.mark.xfail
def test_expected():
    forward()
    assert False
"""
    )
    result = run("--flop-update=new")
    result.assert_outcomes(passed=2, failed=2, skipped=1, xfailed=1)
    result.stdout.fnmatch_lines_random(
        [
            "not written: test_model.py::test_broken: it did not run to its end",
            "not written: test_model.py::test_over: it fails, and not by its baseline",
            "not written: test_model.py::test_skipped: it did not run to its end",
        ]
    )
    assert totals(kept()) == {"test_a": 2048, "test_b": 2048}


def test_a_test_of_ones_own_failure_is_not_compared(project: Project, run: Run) -> None:
    project(TESTS)
    run("--flop-update=new")
    project("def test_a():\n    assert False\n    forward()\n\ndef test_b(): forward()\n")
    result = run("--flop-budget")
    result.assert_outcomes(passed=1, failed=1)
    assert "under the baseline" not in result.stdout.str()


def test_gone_tests_are_told_by_a_full_run_and_taken_away_by_an_update(
    project: Project, run: Run, run_both: Run, kept: Kept
) -> None:
    pytester = project(TESTS)
    run("--flop-update=new")
    project("def test_a(): forward()\n\ndef test_c(): forward()\n")
    # Two workers tell in another way what they collected. A run that filters cannot know what is gone.
    run("--flop-budget", "-k", "test_a or test_c").assert_outcomes(passed=2)
    # Neither is one that names a file a full run: who works on it is not stopped, and nothing is taken away.
    run_both("--flop-update=trim", "test_model.py").assert_outcomes(passed=2)
    assert totals(kept()) == {"test_a": 2048, "test_b": 2048}
    result = run_both("--flop-budget", "--junitxml=junit.xml")
    result.assert_outcomes(passed=2, failed=1)
    told = "__flopguard__/test_model.toml:*: the baseline of 'test_b' is for no test; did you mean 'test_*'? *stale*"
    result.stdout.fnmatch_lines([told, "*deleted *--flop-update=trim*", "FAILED test_model.py::test_b - *"])
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    (suite,) = ElementTree.parse(pytester.path / "junit.xml").getroot()
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("3", "1", "0")
    run("--flop-update=trim", "-k", "test_a or test_c")
    assert totals(kept()) == {"test_a": 2048, "test_b": 2048}
    run_both("--flop-update=trim", "--flop-update=new").assert_outcomes(passed=2)
    assert totals(kept()) == {"test_a": 2048, "test_c": 2048}


def test_a_folder_that_is_named_is_collected_whole(project: Project, run: Run) -> None:
    pytester = project(TESTS)
    run("--flop-update=new").assert_outcomes(passed=2)
    project("def test_a(): forward()\n")
    run("--flop-budget", ".").assert_outcomes(passed=1, failed=1)
    run("--flop-budget", str(pytester.path)).assert_outcomes(passed=1, failed=1)


def test_updates_may_be_named_in_one_list(project: Project, run: Run, kept: Kept) -> None:
    project(TESTS)
    run("--flop-update=new,trim").assert_outcomes(passed=2)
    assert totals(kept()) == {"test_a": 2048, "test_b": 2048}
    wrong = run("--flop-update=new,trm")
    assert wrong.ret == pytest.ExitCode.USAGE_ERROR
    wrong.stderr.fnmatch_lines(["*--flop-update*expected a list of*did you mean 'trim'?*"])


def test_a_file_whose_module_is_gone_is_told(project: Project, run: Run) -> None:
    pytester = project(TESTS)
    pytester.makepyfile(test_gone=pytester.path.joinpath("test_model.py").read_text())
    run("--flop-update=new").assert_outcomes(passed=4)
    pytester.path.joinpath("test_gone.py").unlink()
    run("--flop-budget", "test_model.py").assert_outcomes(passed=2)
    result = run("--flop-budget")
    result.assert_outcomes(passed=2, failed=2)
    result.stdout.fnmatch_lines(["*__flopguard__/test_gone.toml:4: the baseline of 'test_a' is for no test*"])
    run("--flop-update=trim").assert_outcomes(passed=2)
    run("--flop-budget").assert_outcomes(passed=2)


REGIONS = """
def test_step(flopguard):
    model = nn.Linear(8, 8)
    for _ in range(2):
        with flopguard.measure("forward"):
            loss = model(torch.zeros(16, 8)).sum()
    with flopguard.measure("backward"):
        loss.backward()
"""


def test_regions_have_entries_of_their_own_and_are_missed(project: Project, run: Run, kept: Kept) -> None:
    project(REGIONS)
    run("--flop-update=new").assert_outcomes(passed=1)
    assert totals(kept()) == {
        "test_step": 6144,
        "test_step backward": 2048,
        "test_step forward": 2048,
        "test_step forward #2": 2048,
    }
    run("--flop-budget").assert_outcomes(passed=1)
    project(REGIONS.replace('with flopguard.measure("backward")', "if loss is not None"))
    result = run("--flop-budget")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*the region that has a baseline was not measured: backward*"])
    run("--flop-update=changed", "--flop-reason=x").assert_outcomes(passed=1)
    assert "test_step backward" not in totals(kept())


def test_a_new_test_beside_baselines_is_told_and_strict_fails_it(project: Project, run: Run) -> None:
    project("def test_a(): forward()\n")
    run("--flop-update=new")
    project(TESTS)
    result = run("--flop-budget")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["*test_b * new", "2 measured: 1 ok, 1 new"])
    strict = run("--flop-budget", "--flop-strict")
    strict.assert_outcomes(passed=1, failed=1)
    strict.stdout.fnmatch_lines(["no baseline yet*", "*add*pytest --flop-update=new test_model.py::test_b"])


@pytest.mark.parametrize(
    ("day", "outcomes"), [("9999-01-01", {"passed": 2}), ("2020-01-01", {"passed": 1, "failed": 1})]
)
def test_a_muted_entry_warns_until_its_day(
    project: Project, run: Run, kept: Kept, day: str, outcomes: dict[str, int]
) -> None:
    project(TESTS)
    run("--flop-update=new")
    path = kept().path
    muted = f'[test."test_a"]\nmuted_until = {day}\nmuted_reason = "waits for #12"\n'
    path.write_text(path.read_text().replace('[test."test_a"]\n', muted))
    project(TWICE)
    result = run("--flop-budget")
    result.assert_outcomes(**outcomes, **({"warnings": 1} if "failed" not in outcomes else {}))
    result.stdout.fnmatch_lines([f"*muted until {day}*"])


@pytest.mark.parametrize("cut", [-2])
def test_a_file_cut_short_stops_the_run_and_loses_nothing(project: Project, run: Run, kept: Kept, cut: int) -> None:
    project(TESTS)
    run("--flop-update=new")
    path = kept().path
    short = path.read_text()[:cut]
    path.write_text(short)
    for flags in (["--flop-budget"], ["--flop-update=new"]):
        result = run(*flags)
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        assert "[bad-baseline]" in result.stdout.str() + result.stderr.str()
        assert "none is missing" not in result.stdout.str()
        assert path.read_text() == short


def test_memory_of_a_device_that_is_not_here_is_told_and_not_held(project: Project, run_both: Run, kept: Kept) -> None:
    project(TESTS)
    run_both("--flop-update=new").assert_outcomes(passed=2)
    path = kept().path
    for name in ("test_a", "test_b"):
        header = f'[test."{name}".memory.cpu]\n'
        gpu = f'[test."{name}".memory."cuda:sm90"]\nstart = 0\npeak = 1\ntorch = "2.13"\n\n'
        assert header in path.read_text()
        path.write_text(path.read_text().replace(header, gpu + header))
    result = run_both("--flop-budget")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["note: memory on cuda:sm90 is not held here: 2 baselines have it", "2 measured: 2 ok"])


@pytest.mark.slow
def test_two_runs_at_once_keep_both_of_their_entries(project: Project, kept: Kept) -> None:
    pytester = project("\n".join(f"def test_{name}(): forward()\n" for name in "abcdef"))
    command = [sys.executable, "-m", "pytest", "--flop-update=new", "-p", "no:cacheprovider", "-q"]
    runs = [
        subprocess.Popen([*command, "-k", " or ".join(f"test_{n}" for n in names)], cwd=pytester.path)
        for names in ("abc", "def")
    ]
    assert [each.wait(120) for each in runs] == [0, 0]
    assert sorted(totals(kept())) == [f"test_{name}" for name in "abcdef"]
    left = {each.name for each in Path(kept().path.parent).iterdir()}
    assert left == {"test_model.toml", ".gitignore", ".lock"}


def test_a_run_that_changes_nothing_leaves_every_byte(project: Project, run: Run, kept: Kept) -> None:
    project(TESTS)
    run("--flop-update=new")
    before = kept().path.read_bytes()
    result = run("--flop-update=new", "--flop-update=trim", "--flop-update=changed", "--flop-reason=x")
    result.stdout.fnmatch_lines(["no baseline was written*"])
    assert kept().path.read_bytes() == before
