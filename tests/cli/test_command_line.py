"""The flopguard command as people run it: in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_flopguard import __version__
from pytest_flopguard.cli import main
from pytest_flopguard.core.record import RunReport
from pytest_flopguard.reporters import json_file, terminal

REPORT = Path(__file__).parent.parent / "golden" / "report.json"
Run = Callable[..., subprocess.CompletedProcess[str]]
HEAVY = ("torch", "fvcore", "numpy", "pytest", "_pytest")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    def start(*arguments: str, module: str = "pytest_flopguard") -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", module, *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    return start


def loaded_after(code: str, folder: Path) -> set[str]:
    """Run Python code in a fresh process and return which heavy packages it loaded."""
    script = f"{code}\nimport sys; print(); print(*sorted(set({HEAVY!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], cwd=folder, capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


def test_version(run: Run) -> None:
    done = run("--version")
    assert (done.returncode, done.stdout) == (0, f"flopguard {__version__}\n")


def test_the_console_script_is_the_module(run: Run) -> None:
    script = Path(sys.executable).parent / "flopguard"
    done = subprocess.run([script, "--version"], capture_output=True, text=True, check=False)
    assert done.stdout == run("--version").stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["report", str(REPORT)],
        ["report", str(REPORT), "-vv"],
        ["report", "gone.json"],
        ["formulas"],
        ["formulas", "gone"],
        ["formulas", "decoder", "--json"],
        ["estimate", "llama-7b", "--seq", "128", "--train", "--gpu", "h100", "--mfu", "0.4"],
        ["context", "llama-7b", "--seq", "128:256", "--plot", "out.svg"],
        ["frontier", "--plot", "out.png"],
    ],
)
def test_no_command_loads_torch_or_pytest(arguments: list[str], tmp_path: Path) -> None:
    assert loaded_after(f"from pytest_flopguard.cli import main; main({arguments!r})", tmp_path) == set()


@pytest.mark.slow
def test_the_check_of_loaded_packages_can_fail(tmp_path: Path) -> None:
    assert loaded_after("import torch", tmp_path) >= {"torch"}
    assert loaded_after("import pytest", tmp_path) == {"pytest", "_pytest"}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["reprot"], "invalid choice: 'reprot'"),
        (["report"], "the following arguments are required: FILE.json"),
        (["report", str(REPORT), "--wide"], "unrecognized arguments: --wide"),
        (["explain"], "the following arguments are required: NODEID"),
        (["estimate"], "the following arguments are required: MODEL"),
        (["context", "gpt2"], "the following arguments are required: --seq"),
        (["frontier", "gpt2"], "unrecognized arguments: gpt2"),
        (
            ["estimate", "gpt2", "--seq", "8", "--train", "--recipe", "a", "--optimizer", "b"],
            "not allowed with argument",
        ),
    ],
)
def test_wrong_usage_exits_2_without_a_traceback(run: Run, arguments: list[str], told: str) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_help_lists_the_commands_and_exit_codes(run: Run) -> None:
    done = run("--help")
    assert done.returncode == 0
    wanted = ("report", "formulas", "estimate", "context", "frontier", "explain", "--version", "Exit codes: 0")
    assert [each for each in wanted if each not in done.stdout] == []


@pytest.mark.parametrize(("flags", "verbosity"), [([], 0), (["-q"], -1), (["-v"], 1), (["-vv"], 2), (["-v", "-v"], 2)])
def test_report_prints_what_the_run_printed(
    flags: list[str], verbosity: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    assert main(["report", str(REPORT), *flags]) == 1  # its one record failed
    run = json_file.load(REPORT)
    assert capsys.readouterr().out == terminal.render(run, verbosity=verbosity, width=100) + "\n"


def test_report_exits_0_where_nothing_failed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "empty.json"
    path.write_text(json_file.render(RunReport(tool={}, environment={})))
    assert main(["report", str(path)]) == 0
    assert capsys.readouterr().out == "0 measured\n"


@pytest.mark.parametrize("content", [None, "", "{", '{"format_version": 99}', '{"tests": []}'])
def test_a_bad_report_exits_2_and_names_the_file(run: Run, tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "bad.json").write_text(content)
    done = run("report", "bad.json")
    assert done.returncode == 2
    assert done.stderr.startswith("flopguard: bad.json: not a flopguard report: ")
    assert done.stderr.endswith("[bad-report]\n")
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "first"),
    [
        ("formulas", ["name", "kind", "defined", "in", "what"]),
        ("estimate llama-7b --seq 128", ["llama-7b,", "forward", "pass"]),
        ("context llama-7b --seq 128:131072 --json", ["{"]),
    ],
)
def test_a_reader_that_leaves_early_gets_no_traceback(arguments: str, first: list[str], tmp_path: Path) -> None:
    command = f"{sys.executable} -m pytest_flopguard {arguments} | head -n 1"
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout.split() == first
    assert done.stderr == ""


def test_a_full_disk_gets_no_traceback(tmp_path: Path) -> None:
    command = f"{sys.executable} -m pytest_flopguard report {REPORT} > /dev/full"
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "flopguard: cannot write the output: No space left on device\n")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "pyproject.toml").write_text('[tool.flopguard.budgets."test_a.py::*"]\nflops = "9 GFLOP"\n')
    (tmp_path / "test_a.py").write_text(
        "import pytest\n\n@pytest.mark.flop_budget(flops='8 GFLOP')\ndef test_one():\n    assert False\n"
    )
    return tmp_path


def test_explain_says_which_budget_holds_and_runs_nothing(run: Run, project: Path) -> None:
    done = run("explain", "test_a.py::test_one", "--", "-p", "no:cacheprovider")
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line.strip() for line in done.stdout.splitlines()]
    assert lines[lines.index("FLOPs") + 1 :][:6] == [
        "holds  at most 8 GFLOP",
        "marker flop_budget",
        "test_a.py:3  flops='8 GFLOP'",
        "loses  at most 9 GFLOP: a marker comes before a glob",
        "glob test_a.py::*",
        'pyproject.toml:2  flops = "9 GFLOP"',
    ]


@pytest.mark.slow
def test_explain_passes_pytests_exit_code_on(run: Run, project: Path) -> None:
    # 4 is pytest's own code for wrong usage: no such test, and an option that it does not know.
    assert run("explain", "test_a.py::test_gone").returncode == 4
    assert run("explain", "test_a.py::test_one", "--", "--no-such-option").returncode == 4
