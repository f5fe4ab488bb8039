"""``--flop-report=PATH``: exact integers, one shape, the same file under xdist, and never half a file."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

import pytest

Project = Callable[..., pytest.Pytester]
Run = Callable[..., pytest.RunResult]

TESTS = """
@pytest.mark.flop_budget(flops=4096, peak_memory="1 MiB", parameters=72)
def test_step():
    forward().sum().backward()
"""


def test_the_shape_of_format_version_1(project: Project, run: Run, report: Callable[[], dict[str, Any]]) -> None:
    project(TESTS)
    run("--flop-budget", "--flop-report=report.json").assert_outcomes(passed=1)
    data = report()
    assert data["format_version"] == 1
    assert set(data) >= {"format_version", "tool", "environment", "records"}
    record = data["records"][0]
    assert (record["nodeid"], record["label"], record["outcome"]) == ("test_model.py::test_step", "", "passed")
    flops = record["flops"]
    assert {name: flops[name] for name in ("total", "forward", "backward", "recompute", "optimizer")} == {
        "total": 4096,
        "forward": 2048,
        "backward": 2048,
        "recompute": 0,
        "optimizer": 0,
    }
    assert flops["kernel_recompute"] == 0
    assert flops["unknown_ops"] == []
    assert flops["by_module"] == {"Linear": 4096}
    assert flops["by_op"] == {"aten.addmm": 2048, "aten.mm": 2048}
    assert flops["engine"] == "dispatch"
    memory = record["memory"]
    assert (memory["device"], memory["backend"], memory["start_bytes"]) == ("cpu", "live-storage", 0)
    assert sum(memory["by_category"].values()) == memory["peak_bytes"] == memory["growth_bytes"]
    assert record["parameters"] == {"count": 72, "bytes": 288}
    assert [(each["quantity"], each["observed"], each["high"], each["status"]) for each in record["findings"]] == [
        ("flops", 4096, 4096, "met"),
        ("parameters", 72, 72, "met"),
        ("unknown_ops", 0, 0, "met"),
        ("peak_memory", memory["peak_bytes"], 1024**2, "met"),
    ]
    assert record["findings"][0]["origin"] == {"path": "test_model.py", "line": 9, "text": "flops=4096"}


@pytest.mark.slow
def test_xdist_writes_the_same_records(project: Project, report: Callable[[], dict[str, Any]]) -> None:
    pytester = project(TESTS + "\ndef test_other(): forward()\n")
    pytester.runpytest_inprocess("--flop-budget", "--flop-report=report.json")
    alone = report()
    result = pytester.runpytest_subprocess("-n", "2", "--flop-budget", "--flop-report=report.json")
    result.assert_outcomes(passed=2)
    assert report() == alone


def test_it_can_be_written_twice_and_into_new_folders(project: Project) -> None:
    pytester = project(TESTS)
    pytester.runpytest_inprocess("--flop-budget", "--flop-report=a.json", "--flop-report=deep/er/b.json")
    assert (pytester.path / "a.json").read_text() == (pytester.path / "deep" / "er" / "b.json").read_text()


def test_pyproject_can_ask_for_it(project: Project, report: Callable[[], dict[str, Any]]) -> None:
    pytester = project(TESTS, '[tool.flopguard]\nreport = ["report.json"]\n')
    pytester.runpytest_inprocess("--flop-budget")
    assert len(report()["records"]) == 1


def test_ctrl_c_leaves_a_whole_file_that_says_so(project: Project) -> None:
    pytester = project(TESTS + "\ndef test_later(): raise KeyboardInterrupt\n")
    (pytester.path / "report.json").write_text("the former run")
    result = pytester.runpytest_inprocess("--flop-budget", "--flop-report=report.json", no_reraise_ctrlc=True)
    assert result.ret == pytest.ExitCode.INTERRUPTED
    data = json.loads((pytester.path / "report.json").read_text())
    assert [each["nodeid"] for each in data["records"]] == ["test_model.py::test_step"]
    assert data["notes"] == ["the run was interrupted: tests are missing"]
    assert [each.name for each in pytester.path.glob("report.json*")] == ["report.json"]


BROKEN = """
class Broken:
    suffix = ".txt"

    def render(self, run):
        raise ValueError("cannot render")

def pytest_flopguard_reporters(formats):
    formats[".txt"] = Broken()
"""


def test_a_reporter_that_raises_leaves_the_former_file(project: Project) -> None:
    pytester = project(TESTS)
    pytester.makeconftest(BROKEN)
    (pytester.path / "report.txt").write_text("the former run")
    result = pytester.runpytest_inprocess("--flop-budget", "--flop-report=report.txt", "--flop-report=good.json")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        ["ERROR: report.txt: the report was not written: ValueError: cannot render [[]report-not-written[]]"]
    )
    assert "1 measured: 1 ok" in result.stdout.str()
    assert "Traceback" not in result.stdout.str() + result.stderr.str()
    assert (pytester.path / "report.txt").read_text() == "the former run"
    # The other report does not suffer.
    assert (pytester.path / "good.json").exists()


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("folder.json", "Is a directory"),
        ("file/report.json", "* exists"),
        ("/proc/report.json", "No such file or directory"),
    ],
)
def test_a_path_that_cannot_be_written_is_one_line(project: Project, run: Run, path: str, reason: str) -> None:
    pytester = project(TESTS)
    (pytester.path / "folder.json").mkdir()
    (pytester.path / "file").touch()
    before = sorted(pytester.path.iterdir())
    result = run("--flop-budget", "-p", "no:cacheprovider", f"--flop-report={path}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines([f"ERROR: {path}: the report was not written: {reason} [[]report-not-written[]]"])
    assert "1 measured: 1 ok" in result.stdout.str()
    assert "Traceback" not in result.stdout.str() + result.stderr.str()
    assert [each for each in sorted(pytester.path.iterdir()) if each.name != "__pycache__"] == before


def test_a_failed_test_keeps_its_exit_code(project: Project, run: Run) -> None:
    pytester = project(TESTS.replace("4096", "1"))
    (pytester.path / "folder.json").mkdir()
    assert run("--flop-budget", "--flop-report=folder.json").ret == pytest.ExitCode.TESTS_FAILED


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600)])
def test_the_file_has_the_usual_permissions(project: Project, run: Run, mask: int, mode: int) -> None:
    pytester = project(TESTS)
    before = os.umask(mask)
    try:
        run("--flop-budget", "--flop-report=report.json")
    finally:
        os.umask(before)
    assert (pytester.path / "report.json").stat().st_mode & 0o777 == mode
