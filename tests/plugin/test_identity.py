"""A test is known by its file: two projects in one run keep their limits, records and baselines apart."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., pytest.RunResult]
TEST = """
import torch

def test_t():
    torch.nn.Linear(8, 8)(torch.zeros({rows}, 8))
"""
SETTINGS = """
[tool.pytest.ini_options]
addopts = "--import-mode=importlib"
[tool.flopguard]
enabled = true
[tool.flopguard.default-budget]
flops = {limit}
"""


@pytest.fixture(autouse=True)
def _no_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def two_projects(pytester: pytest.Pytester) -> Path:
    """Two projects without a common root, so that pytest takes enc for the root directory.

    One linear layer of 8 x 8 over 16 rows is 2 * 16 * 8 * 8 = 2,048 FLOPs, over 32 rows 4,096.
    """
    for name, rows, limit in (("enc", 16, 2048), ("dec", 32, 4095)):
        write(pytester.path / name / "pyproject.toml", SETTINGS.format(limit=limit))
        write(pytester.path / name / "tests" / "test_model.py", TEST.format(rows=rows))
    return pytester.path


def found(path: Path) -> dict[str, tuple[int, list[Any]]]:
    """Return FLOPs and limits of each record of a report, by node id."""
    records = json.loads(path.read_text())["records"]
    return {
        each["nodeid"]: (each["flops"]["total"], [inner["high"] for inner in each["findings"] if inner["high"]])
        for each in records
    }


def test_each_of_two_projects_has_its_own_limits_and_records(two_projects: Path, run: Run) -> None:
    result = run("enc", "dec", "--flop-report=run.json")
    result.assert_outcomes(passed=1, failed=1)
    assert found(two_projects / "run.json") == {
        "tests/test_model.py::test_t": (2048, [2048]),
        "../dec/tests/test_model.py::test_t": (4096, [4095]),
    }
    # The second one fails by its own limit, which is written in its own file.
    result.stdout.fnmatch_lines(["*written*../dec/pyproject.toml:7*"])


@pytest.mark.slow
def test_each_of_two_projects_has_its_own_records_under_xdist(two_projects: Path, pytester: pytest.Pytester) -> None:
    result = pytester.runpytest_subprocess("-n", "2", "enc", "dec", "--flop-report=run.json")
    result.assert_outcomes(passed=1, failed=1)
    assert {each: flops for each, (flops, _) in found(two_projects / "run.json").items()} == {
        "tests/test_model.py::test_t": 2048,
        "../dec/tests/test_model.py::test_t": 4096,
    }


def test_each_of_two_projects_has_its_own_baseline(two_projects: Path, run: Run, pytester: pytest.Pytester) -> None:
    write(two_projects / "dec" / "pyproject.toml", SETTINGS.format(limit=4096))
    run("enc", "dec", "--flop-update=new").assert_outcomes(passed=2)
    files = {each.parent.parent.parent.name: each for each in two_projects.rglob("__flopguard__/test_model.toml")}
    assert "forward = 2_048" in files["enc"].read_text().replace("2048", "2_048")
    assert "forward = 4_096" in files["dec"].read_text().replace("4096", "4_096")
    run("enc", "dec").assert_outcomes(passed=2)
    # A test that is gone is gone from its own file, whatever the other project has.
    write(two_projects / "dec" / "tests" / "test_model.py", TEST.format(rows=32).replace("test_t", "test_renamed"))
    result = run("enc", "dec", "-rf")
    result.stdout.fnmatch_lines(
        ["*the baseline of 'test_t' is for no test*", "FAILED *dec/tests/test_model.py::test_t *"]
    )
    result.assert_outcomes(passed=2, failed=1)


def test_settings_of_the_root_hold_outside_of_it_only_where_they_are_named(pytester: pytest.Pytester, run: Run) -> None:
    write(pytester.path / "enc" / "pyproject.toml", SETTINGS.format(limit=1))
    write(pytester.path / "enc" / "test_a.py", TEST.format(rows=16))
    write(pytester.path / "plain" / "test_a.py", TEST.format(rows=16))
    # pytest plain, by itself, has no limit either.
    run("enc", "plain").assert_outcomes(passed=1, failed=1)
    run("-c", "enc/pyproject.toml", "plain").assert_outcomes(failed=1)


def test_a_module_that_two_projects_link_to_is_a_module_of_each(two_projects: Path, run: Run) -> None:
    write(two_projects / "shared" / "test_shared.py", TEST.format(rows=32))
    for name in ("enc", "dec"):
        (two_projects / name / "tests" / "test_model.py").unlink()
        (two_projects / name / "tests" / "test_shared.py").symlink_to(two_projects / "shared" / "test_shared.py")
    run("enc", "dec", "--flop-report=run.json").assert_outcomes(failed=2)
    assert {each: limits for each, (_, limits) in found(two_projects / "run.json").items()} == {
        "tests/test_shared.py::test_t": [2048],
        "../dec/tests/test_shared.py::test_t": [4095],
    }


def test_a_root_directory_behind_a_link_is_the_same_directory(pytester: pytest.Pytester, run: Run) -> None:
    write(pytester.path / "real" / "pyproject.toml", SETTINGS.format(limit=1))
    write(pytester.path / "real" / "tests" / "test_a.py", TEST.format(rows=16))
    (pytester.path / "link").symlink_to(pytester.path / "real")
    run("--rootdir=link", "real", "--flop-report=run.json").assert_outcomes(failed=1)
    assert list(found(pytester.path / "run.json")) == ["tests/test_a.py::test_t"]


def test_items_that_a_plugin_names_as_it_likes_belong_to_their_file(pytester: pytest.Pytester, run: Run) -> None:
    pytester.makeconftest(
        """
        import pytest, torch

        class Work(pytest.Item):
            def __init__(self, **kwargs):
                super().__init__(**kwargs)
                self._nodeid = "any text at all"
            def runtest(self):
                torch.nn.Linear(8, 8)(torch.zeros(16, 8))

        class Works(pytest.File):
            def collect(self):
                yield Work.from_parent(self, name="layer")

        def pytest_collect_file(file_path, parent):
            if file_path.suffix == ".work" or file_path.name == "Work":
                return Works.from_parent(parent, path=file_path)
        """
    )
    for name in ("a.work", "b.work", "Work", "test_v1.2.py"):
        write(pytester.path / "some" / name, TEST.format(rows=16) if name.endswith(".py") else "")
    pytester.makepyprojecttoml('[tool.pytest.ini_options]\naddopts = "--import-mode=importlib"\n')
    run("--flop-update=new", "--flop-report=run.json").assert_outcomes(passed=4)
    assert sorted(found(pytester.path / "run.json")) == [
        "some/Work::layer",
        "some/a.work::layer",
        "some/b.work::layer",
        "some/test_v1.2.py::test_t",
    ]
    # Each file has baselines of its own, which the next run finds again: nothing is gone.
    assert len(list((pytester.path / "some" / "__flopguard__").glob("*.toml"))) == 4
    result = run("--flop-budget", "--flop-strict")
    result.assert_outcomes(passed=4)
    result.stdout.fnmatch_lines(["flopguard: 4 baseline(s)"])


def test_doctests_have_baselines_beside_their_files(pytester: pytest.Pytester, run: Run) -> None:
    pytester.makepyfile(layers=">>> None\n")
    text = '"""\n>>> import torch\n>>> y = torch.nn.Linear(8, 8)(torch.zeros(16, 8))\n"""\n'
    for folder in ("one", "two"):
        write(pytester.path / folder / "layers.py", text)
    (pytester.path / "layers.py").unlink()
    write(pytester.path / "conftest.py", "import torch\n")
    args = ("--doctest-modules", "--import-mode=importlib", "--flop-budget", "--flop-report=run.json")
    run(*args, "--flop-update=new").assert_outcomes(passed=2)
    assert sorted(each.partition("::")[0] for each in found(pytester.path / "run.json")) == [
        "one/layers.py",
        "two/layers.py",
    ]
    run(*args, "--flop-strict").assert_outcomes(passed=2)
