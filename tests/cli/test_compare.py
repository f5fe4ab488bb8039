"""flopguard compare: reports, revisions and folders, and the exit code outside of pytest."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pytest_flopguard.budgets.baseline_file import BaselineFile, baseline_path
from pytest_flopguard.budgets.baseline_text import file_text
from pytest_flopguard.cli import main
from pytest_flopguard.core.baseline import Baseline, MemoryBaseline, OpWork
from pytest_flopguard.core.measurement import FlopTally, Measurement, MemoryPeak, OpCount, ParameterCount
from pytest_flopguard.core.record import Record, RunReport
from pytest_flopguard.core.workload import Workload, WorkloadCall
from pytest_flopguard.reporters import json_file

Compare = Callable[..., tuple[int, str]]


def baseline(flops: int, inputs: str = "float32[1]", peak: int = 100, torch: str = "2.13") -> Baseline:
    """Build the baseline of a test whose two layers do all the work."""
    return Baseline(
        flops={"forward": flops},
        parameters=ParameterCount(count=10, bytes=40),
        memory={"cpu": MemoryBaseline(start=0, peak=peak, torch=torch)},
        workload=Workload(calls=(WorkloadCall(model="Net", inputs=inputs),)),
        modules={"Net.0-1": {"aten.mm": OpWork(calls=2, flops={"forward": flops})}},
    )


def keep(folder: Path, entries: Mapping[str, Baseline], module: str = "tests/test_a.py") -> None:
    path = baseline_path(folder / module)
    path.parent.mkdir(parents=True, exist_ok=True)
    empty = BaselineFile(path=path, shown="")
    path.write_text(file_text(empty, {(name, ""): each for name, each in entries.items()}))


def report(path: Path, flops: Mapping[str, int], complete: bool = True) -> None:
    records = []
    for name, number in flops.items():
        count = OpCount(op="aten.mm", module="Net.0", phase="forward", kind="counted", calls=1, flops=number)
        seen = Measurement(
            flops=FlopTally(counts=(count,), engine="dispatch"),
            memory=(MemoryPeak(device="cpu", backend="b", start_bytes=0, peak_bytes=100),),
        )
        records.append(Record(nodeid=f"tests/test_a.py::{name}", measurement=seen, complete=complete))
    run = RunReport(tool={}, environment={"torch": "2.13.0+cpu"}, records=tuple(records))
    path.write_text(json_file.render(run))


@pytest.fixture
def compare(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Compare:
    """Run the command in tmp_path and return its exit code and output."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str]:
        code = main(["compare", *arguments])
        said = capsys.readouterr()
        return code, said.out + said.err

    return run


@pytest.fixture
def git(tmp_path: Path, compare: Compare) -> Callable[..., None]:
    """Make tmp_path a repository and return a way to run git in it."""

    def run(*arguments: str) -> None:
        identity = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", *identity, *arguments], cwd=tmp_path, check=True, capture_output=True)

    run("init", "-q", "-b", "main")
    return run


BEFORE = {"test_same": 10, "test_dear": 10, "test_cheap": 10, "test_gone": 10}
NOW = {"test_same": 10, "test_dear": 16, "test_cheap": 8, "test_new": 10}
SEEN = """\
a.json -> b.json
regression   tests/test_a.py::test_dear
             FLOPs: 10 FLOP -> 16 FLOP (+60.00%)
             +6 FLOP  Net.0  (larger operands: aten.mm costs 1.60 times what it did)
improvement  tests/test_a.py::test_cheap
             FLOPs: 10 FLOP -> 8 FLOP (-20.00%)
             -2 FLOP  Net.0  (smaller operands: aten.mm costs 0.80 times what it did)
new          tests/test_a.py::test_new
gone         tests/test_a.py::test_gone
5 compared: 1 regression, 1 improvement, 1 new, 1 gone, 1 same
"""


def test_two_reports(compare: Compare, tmp_path: Path) -> None:
    report(tmp_path / "a.json", BEFORE)
    report(tmp_path / "b.json", NOW)
    assert compare("a.json", "b.json") == (0, SEEN)
    assert compare("a.json", "b.json", "--fail") == (1, SEEN)
    code, text = compare("a.json", "a.json", "--fail")
    assert (code, text.splitlines()[-1]) == (0, "4 compared: 4 same")


def test_a_win_a_new_and_a_gone_test_do_not_fail(compare: Compare, tmp_path: Path) -> None:
    report(tmp_path / "a.json", BEFORE)
    report(tmp_path / "b.json", {name: flops for name, flops in NOW.items() if name != "test_dear"})
    code, text = compare("a.json", "b.json", "--fail")
    assert (code, text.splitlines()[-1]) == (0, "5 compared: 1 improvement, 1 new, 2 gone, 1 same")


def test_json_is_exact_and_whole(compare: Compare, tmp_path: Path) -> None:
    report(tmp_path / "a.json", {"test_a": 2**70, "test_b": 1})
    report(tmp_path / "b.json", {"test_a": 2**70 + 1, "test_b": 1})
    _, text = compare("a.json", "b.json", "--format", "json")
    found: dict[str, Any] = json.loads(text)
    assert (found["format_version"], found["before"], found["now"]) == (1, "a.json", "b.json")
    assert found["summary"] == {"regression": 1, "same": 1}
    worse, same = found["tests"]
    assert worse["numbers"] == [{"quantity": "flops", "device": "", "before": 2**70, "now": 2**70 + 1}]
    assert (worse["modules"][0]["path"], worse["modules"][0]["flops"]) == ("Net.0", 1)
    assert (same["verdict"], same["numbers"]) == ("same", [])


def test_memory_is_told_by_module(compare: Compare, tmp_path: Path) -> None:
    for name, size in (("a", 100), ("b", 160)):
        modules = {"Net.0-1": {"parameters": 2 * size}}
        memory = MemoryBaseline(start=0, peak=2 * size, torch="2.13", held={"parameters": 2 * size}, modules=modules)
        keep(tmp_path / name, {"test_a": Baseline(memory={"cpu": memory})})
    code, text = compare("a", "b", "--fail")
    assert (code, text.splitlines()[2:4]) == (
        1,
        [
            "             peak memory on cpu: 200 B -> 320 B (+60.00%)",
            "             +120 B  parameters  Net.0-1  x2  (on cpu at its peak)",
        ],
    )
    _, text = compare("a", "b", "--format", "json")
    [test] = json.loads(text)["tests"]
    row = {"category": "parameters", "path": "Net.0-1", "modules": 2, "before": 200, "now": 320}
    assert test["memory"] == [{"device": "cpu"} | row]


def test_markdown_is_a_table_that_no_name_can_break(compare: Compare, tmp_path: Path) -> None:
    report(tmp_path / "a.json", {"test_a[x|`y`@ada<b>]": 1})
    report(tmp_path / "b.json", {"test_a[x|`y`@ada<b>]": 2})
    _, text = compare("a.json", "b.json", "--format", "markdown")
    head, _, *table = text.splitlines()
    assert head == "**1 compared: 1 regression** (a.json → b.json)"
    assert table[0] == "| test | verdict | numbers | modules |"
    assert table[2].startswith(
        "| ``tests/test_a.py::test_a[x\\|`y`@ada<b>]`` | regression | FLOPs: 1 FLOP -&#62; 2 FLOP"
    )


def test_a_test_that_failed_on_its_way_is_no_number(compare: Compare, tmp_path: Path) -> None:
    report(tmp_path / "a.json", {"test_a": 10})
    report(tmp_path / "b.json", {"test_a": 5}, complete=False)
    # With it alone there is nothing to compare with.
    assert compare("a.json", "b.json")[0] == 2


def test_two_revisions_and_a_folder(compare: Compare, git: Callable[..., None], tmp_path: Path) -> None:
    keep(tmp_path, {"test_a": baseline(10), "test_b": baseline(10)})
    keep(tmp_path, {"test_c": baseline(10)}, "other/test_c.py")
    git("add", ".")
    git("commit", "-q", "-m", "first")
    keep(tmp_path, {"test_a": baseline(20), "test_b": baseline(10)})
    assert compare("main", "HEAD", "--fail")[0] == 0
    code, text = compare("HEAD", ".", "--fail")
    assert (code, text.splitlines()[-1]) == (1, "3 compared: 1 regression, 2 same")
    assert "+10 FLOP  Net.0-1 x2  (larger operands: aten.mm costs 2.00 times what it did)" in text
    git("commit", "-q", "-a", "-m", "second")
    assert compare("HEAD~1", "main", "--fail") == (1, text.replace("HEAD -> .", "HEAD~1 -> main"))


def test_a_revision_is_read_below_the_folder_where_one_stands(
    compare: Compare, git: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(tmp_path / "a", {"test_a": baseline(10)})
    keep(tmp_path / "b", {"test_b": baseline(10)})
    git("add", ".")
    git("commit", "-q", "-m", "first")
    monkeypatch.chdir(tmp_path / "a")
    assert compare("HEAD", ".", "--format", "text")[1].splitlines()[-1] == "1 compared: 1 same"


@pytest.mark.parametrize(
    ("now", "verdict", "told"),
    [
        (baseline(10, inputs="float32[2]"), "changed", "inputs of Net: float32[1] before, float32[2] now"),
        (replace(baseline(10), flops=None, modules={}), "undecided", "FLOPs: known before only"),
        (baseline(10, peak=101), "regression", "peak memory on cpu: 100 B -> 101 B (+1.00%)"),
        # Memory under another torch is for a run there to decide; that is said.
        (baseline(10, peak=999, torch="2.12"), "same", "memory of cpu: torch 2.13 before, 2.12 now"),
    ],
)
def test_what_cannot_be_compared_never_passes(
    compare: Compare, tmp_path: Path, now: Baseline, verdict: str, told: str
) -> None:
    keep(tmp_path / "a", {"test_a": baseline(10)})
    keep(tmp_path / "b", {"test_a": now})
    code, text = compare("a", "b", "--fail")
    assert code == (verdict != "same")
    assert text.splitlines()[-1] == f"1 compared: 1 {verdict}"
    assert told in text


def test_what_is_no_side_is_told(compare: Compare, tmp_path: Path) -> None:
    code, text = compare("mian", ".")
    assert code == 2
    assert "'mian' cannot be compared: it is not a file or a directory, and git reports: fatal: " in text
    assert "[bad-comparison]" in text
    (tmp_path / "broken.json").write_text("{")
    assert compare("broken.json", ".")[0] == 2
    assert "[bad-report]" in compare("broken.json", ".")[1]


@pytest.mark.parametrize(
    ("side", "reason"),
    [
        ("main...feature", "give its ends as two arguments, flopguard compare main feature"),
        ("main..", "give its ends as two arguments, flopguard compare main HEAD"),
        ("..HEAD", "give its ends as two arguments, flopguard compare HEAD HEAD"),
        ("../absent.json", "it is not a file or a directory, and git reports: fatal: "),
        ("", "it is empty"),
        ("without", "there is no baseline below this directory"),
        ("HEAD", "no baseline is committed there below "),
        ("nothing.json", "no test in this report was measured to its end"),
        ("HEAD^{tree}", "git reports: "),
        ("--help-me", ""),
    ],
)
def test_a_side_without_numbers_is_never_equal(
    compare: Compare,
    git: Callable[..., None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    side: str,
    reason: str,
) -> None:
    monkeypatch.setenv("LC_ALL", "C")
    (tmp_path / "without").mkdir()
    (tmp_path / "without" / "file").write_text("")
    report(tmp_path / "nothing.json", {})
    git("add", ".")
    git("commit", "-q", "-m", "no baseline")
    keep(tmp_path / "some", {"test_a": baseline(10)})
    for sides in ((side, "some"), ("some", side)):
        try:
            code, text = compare(*sides)
        except SystemExit as ended:
            code, text = int(ended.code or 0), ""
        assert code == 2
        assert reason in text


def test_git_speaks_for_itself(compare: Compare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "C")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    keep(tmp_path, {"test_a": baseline(10)})
    code, text = compare("HEAD", ".")
    assert code == 2
    assert "git reports: fatal: not a git repository (or any of the parent directories): .git" in text
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "git reports: git cannot be run: No such file or directory" in compare("HEAD", ".")[1]


def test_memory_is_in_one_order_whatever_the_hash_seed(compare: Compare, tmp_path: Path) -> None:
    devices = ("cpu", "sim:h100", "sim:a100", "cuda:sm90", "meta")
    for name, peak in (("a", 100), ("b", 200)):
        memory = {each: MemoryBaseline(start=0, peak=peak, torch="2.13") for each in devices}
        keep(tmp_path / name, {"test_a": replace(baseline(10), memory=memory)})
    document = json.loads(compare("a", "b", "--format", "json")[1])
    found = [each["device"] for each in document["tests"][0]["numbers"] if each["device"]]
    assert found == sorted(devices)


def test_a_broken_baseline_of_a_revision_is_told_with_its_place(
    compare: Compare, git: Callable[..., None], tmp_path: Path
) -> None:
    keep(tmp_path, {"test_a": baseline(10)})
    path = tmp_path / "tests" / "__flopguard__" / "test_a.toml"
    path.write_text(path.read_text().replace("count = 10", "count = ten"))
    git("add", ".")
    git("commit", "-q", "-m", "first")
    code, text = compare("HEAD", ".")
    assert code == 2
    assert ":tests/__flopguard__/test_a.toml:6: not a baseline file that can be used" in text


def test_a_changed_config_is_compared_and_named(compare: Compare, tmp_path: Path) -> None:
    for side, layers in (("old", 2), ("new", 32)):
        call = WorkloadCall(model="Net", inputs="float32[1]", config={"num_hidden_layers": layers})
        keep(tmp_path / side, {"test_x": replace(baseline(100 * layers), workload=Workload(calls=(call,)))})
    code, said = compare("old", "new", "--fail")
    assert code == 1
    assert "regression" in said
    assert "config num_hidden_layers: 2 before, 32 now" in said
    # 32 * 100 - 2 * 100.
    assert "+3 kFLOP" in said
