"""A repository with two projects: the same verdicts from inside each of them and from the root, also under -n 2."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., pytest.RunResult]
TWO_WORKERS = pytest.param(("-n", "2"), marks=pytest.mark.slow)

# [16, 8] @ [8, 8]: 2 * 16 * 8 * 8 = 2,048 FLOPs, and 8 * 8 + 8 = 72 parameters.
TESTS = """
import pytest
import torch
from torch import nn


def test_plain():
    nn.Linear(8, 8)(torch.zeros(16, 8))


@pytest.mark.flop_budget(flops=2000)
def test_marked():
    nn.Linear(8, 8)(torch.zeros(16, 8))


def test_region(flopguard):
    with flopguard.measure("step", flops=2000):
        nn.Linear(8, 8)(torch.zeros(16, 8))
"""
# 2,000 and 5% of it are 2,100: enough. 2,000 and 1% are 2,020: not enough.
WIDE = """
[tool.flopguard]
tolerance = "5%"

[tool.flopguard.budgets."tests/test_*::test_plain"]
parameters = 72
"""
NARROW = """
[tool.flopguard]
enabled = true
tolerance = "1%"

[tool.flopguard.default-budget]
parameters = 70
"""
ROOT = """
[tool.pytest.ini_options]
addopts = ["--import-mode=importlib"]

[tool.flopguard]
enabled = true

[tool.flopguard.default-budget]
flops = 1
"""


@pytest.fixture
def repository(pytester: pytest.Pytester) -> Path:
    files = {
        "pyproject.toml": ROOT,
        "wide/pyproject.toml": WIDE,
        "narrow/pyproject.toml": NARROW,
        "wide/tests/test_a.py": TESTS,
        "narrow/tests/test_a.py": TESTS,
        "tests/test_root.py": "import torch\n\ndef test_root():\n    torch.ones(2, 2) @ torch.ones(2, 2)\n",
    }
    for name, text in files.items():
        path = pytester.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return pytester.path


def verdicts(report: Path, inside: str = "") -> dict[str, list[tuple[Any, ...]]]:
    """Return what each test of a project was held to and what came of it, by its name inside the project."""
    found: dict[str, list[tuple[Any, ...]]] = {}
    for record in json.loads(report.read_text())["records"]:
        if record["nodeid"].startswith(inside):
            nodeid = f"{record['nodeid'].removeprefix(inside)}  {record['label']}"
            found[nodeid] = [
                (
                    each["quantity"],
                    each["high"],
                    each["status"],
                    each["origin"]["path"].removeprefix(inside),
                    each["origin"]["line"],
                )
                for each in record["findings"]
                if each["source"] == "budget"
            ]
    return found


def names(result: pytest.RunResult, inside: str = "") -> set[str]:
    """Return the tests that failed, by their name inside a project."""
    failed = {line.split()[1] for line in result.outlines if line.startswith("FAILED ")}
    return {each.removeprefix(inside) for each in failed if each.startswith(inside)}


@pytest.mark.parametrize("workers", [(), TWO_WORKERS], ids=["one process", "-n 2"])
def test_the_verdicts_are_the_same_from_the_root_and_from_inside(
    repository: Path, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, workers: tuple[str, ...]
) -> None:
    run = pytester.runpytest_subprocess if workers else pytester.runpytest_inprocess
    whole = run("-p", "no:cacheprovider", *workers, "--flop-report=run.json")
    # From the root: wide has all that it needs, narrow fails all of its tests, and so does the root's one test.
    whole.assert_outcomes(passed=3, failed=4)
    assert names(whole) == {"tests/test_root.py::test_root"} | {
        f"narrow/tests/test_a.py::{name}" for name in ("test_plain", "test_marked", "test_region")
    }
    for project, outcomes in (("wide", {"passed": 3}), ("narrow", {"failed": 3})):
        monkeypatch.chdir(repository / project)
        inner = run("-p", "no:cacheprovider", *workers, "--flop-budget", "--rootdir=.", "--flop-report=run.json")
        inner.assert_outcomes(**outcomes)
        assert names(inner) == names(whole, f"{project}/")
        found = verdicts(repository / project / "run.json")
        assert found == verdicts(repository / "run.json", f"{project}/")
        assert all(limits for name, limits in found.items() if name.endswith(("test_plain  ", "step", "marked  ")))


def test_a_tolerance_and_a_budget_are_those_of_the_nearest_file(repository: Path, run: Run) -> None:
    run("--flop-report=run.json")
    found = verdicts(repository / "run.json")
    assert found["wide/tests/test_a.py::test_marked  "] == [("flops", 2100, "met", "wide/tests/test_a.py", 11)]
    assert found["wide/tests/test_a.py::test_region  step"] == [("flops", 2100, "met", "wide/tests/test_a.py", 17)]
    # 72 and 5% of it, rounded down, are 75.
    assert found["wide/tests/test_a.py::test_plain  "] == [("parameters", 75, "met", "wide/pyproject.toml", 6)]
    # 70 parameters and 1% of them, rounded down, are 70.
    assert ("parameters", 70, "broken", "narrow/pyproject.toml", 7) in found["narrow/tests/test_a.py::test_plain  "]
    assert found["narrow/tests/test_a.py::test_marked  "][0] == ("flops", 2020, "broken", "narrow/tests/test_a.py", 11)
    assert found["tests/test_root.py::test_root  "] == [("flops", 1, "broken", "pyproject.toml", 9)]


def test_the_files_that_hold_are_named(repository: Path, run: Run) -> None:
    told = "settings of narrow/pyproject.toml for the tests below it, settings of wide/pyproject.toml for the tests "
    run("--collect-only").stdout.fnmatch_lines([f"flopguard: no baseline yet *, {told}below it"])
    assert "settings of" not in run("--collect-only", "tests").stdout.str()


def test_explain_names_the_nearest_file(repository: Path, run: Run) -> None:
    result = run("--flop-explain", "narrow/tests/test_a.py::test_plain")
    result.stdout.fnmatch_lines(["*holds  at most 70", "*default default-budget", "*narrow/pyproject.toml:7*"])
    assert "flops = 1" not in result.stdout.str()


@pytest.mark.parametrize("workers", [(), TWO_WORKERS], ids=["one process", "-n 2"])
def test_an_option_of_the_whole_run_is_refused_with_its_line(
    repository: Path, pytester: pytest.Pytester, workers: tuple[str, ...]
) -> None:
    (repository / "wide" / "pyproject.toml").write_text('[tool.flopguard]\nmeasure = "guarded"\n')
    run = pytester.runpytest_subprocess if workers else pytester.runpytest_inprocess
    result = run(*workers)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    told = (
        "wide/pyproject.toml:2: measure = 'guarded': one run has one measure, and this one has 'all' (default); "
        "set it in pyproject.toml, or start pytest in wide [run-wide-setting]"
    )
    assert told in result.stdout.str() + result.stderr.str()
    run("--flop-measure=guarded", *workers, "wide/tests").assert_outcomes(passed=1, failed=2)


@pytest.mark.parametrize(("tolerance", "failed"), [("5%", 0), ("1%", 1)])
def test_a_baseline_has_the_tolerance_of_the_nearest_file(
    repository: Path, pytester: pytest.Pytester, run: Run, monkeypatch: pytest.MonkeyPatch, tolerance: str, failed: int
) -> None:
    monkeypatch.delenv("CI", raising=False)
    (repository / "wide" / "pyproject.toml").write_text(f'[tool.flopguard]\ntolerance.flops = "{tolerance}"\n')
    select = ("wide/tests", "-k", "plain")
    run("--flop-update=new", *select).assert_outcomes(passed=1, deselected=2)
    kept = repository / "wide" / "tests" / "__flopguard__" / "test_a.toml"
    # 2,048 now; 2,000 accepted and 5% of it are 2,100, and 1% are 2,020.
    text = re.sub(r"forward = 2_?048", "forward = 2000", kept.read_text())
    assert text != kept.read_text()
    kept.write_text(text)
    run(*select).assert_outcomes(passed=1 - failed, failed=failed, deselected=2)
    before = kept.read_bytes()
    run("--flop-update=changed", "--flop-reason=x", *select).assert_outcomes(passed=1, deselected=2)
    assert (kept.read_bytes() != before) == bool(failed)
