"""``flopguard memory``: peaks of real steps on a simulated GPU, and what fits."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch._dynamo.config  # noqa: F401
from hypothesis import given
from hypothesis import strategies as st

from pytest_flopguard.backends.simulated.fitting import largest
from pytest_flopguard.cli import main

MIB = 2**20
# One step makes and drops a block of batch x seq KiB.
PROGRAM = """
import torch

def blocks(batch, seq):
    kept = torch.empty(2**20, dtype=torch.uint8, device="cuda")
    return lambda: (kept, torch.empty(batch * seq, 1024, dtype=torch.uint8, device="cuda"))

def raises(batch, seq):
    return lambda: torch.empty(4, device="cuda").sum().item()

number = 7
"""


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Write the programs and go there; each test has a module of another name, since Python keeps modules."""
    name = f"program_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(PROGRAM, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return name


def test_a_step_that_fits(program: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["memory", f"{program}:blocks", "--batch", "4", "--seq", "1024", "--gpu", "l4"]) == 0
    told = capsys.readouterr().out
    # 1 MiB and 4 x 1024 KiB; a segment of 2 MiB for small blocks, and one of 20 MiB.
    assert "peak allocated  5 MiB" in told
    assert "peak reserved   22 MiB of 21.48 GiB" in told
    assert "fits            yes, 21.45 GiB to spare" in told
    assert "predicted, not measured: l4, torch " in told


def test_a_step_that_does_not_fit_ends_with_1(program: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["memory", f"{program}:blocks", "--batch", "64", "--seq", "1024", "--capacity", "32 MiB"]) == 1
    # 64 MiB and the small segment of 2 MiB are 34 MiB more than there is.
    assert "fits            34 MiB more reserved than there is" in capsys.readouterr().out


def test_the_largest_that_fits_is_found_by_running(program: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["memory", f"{program}:blocks", "--seq", "1024", "--capacity", "64 MiB", "--largest", "batch", "--json"]
    assert main(arguments) == 0
    found = json.loads(capsys.readouterr().out)
    # One of them is 1 MiB and comes out of a small segment; others out of segments of 20 MiB below 10 MiB, and of their
    # own size above. Beside the small segment of 2 MiB there is room for one of 62 MiB.
    assert found["largest"] == {"batch": 62}
    assert found["peak_bytes"] == 2 * MIB
    assert found["reserved_peak_bytes"] == 2 * MIB
    assert found["prediction"]["gpu"] == "h100"


def test_nothing_fits(program: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["memory", f"{program}:blocks", "--seq", "65536", "--capacity", "32 MiB", "--largest", "batch"]
    assert main(arguments) == 1
    assert "largest batch   none: not even 1 fits at seq 65,536" in capsys.readouterr().out


def test_all_mistakes_are_told_at_once(program: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [
        "memory",
        f"{program}:blcks",
        "--gpu",
        "h1000",
        "--batch",
        "0",
        "--capacity",
        "much",
        "--plot",
        "x.gif",
    ]
    assert main(arguments) == 2
    told = capsys.readouterr().err
    for part in ("did you mean 'blocks'?", "'h1000'", "--batch", "much", "x.gif"):
        assert part in told


def test_what_is_no_function_is_told(program: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["memory", f"{program}:number"]) == 2
    assert "expected a function of (batch, seq), not int" in capsys.readouterr().err
    assert main(["memory", "no_such_module_here:step"]) == 2
    assert "a module that can be imported" in capsys.readouterr().err


def test_a_program_that_reads_values_is_told_its_line(program: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["memory", f"{program}:raises"]) == 2
    told = capsys.readouterr().err
    assert f"{program}.py:9 in <lambda>" in told
    assert ": the test asks for a value" in told


@given(limit=st.integers(0, 300), most=st.integers(1, 200))
def test_the_largest_is_the_last_that_fits(limit: int, most: int) -> None:
    tried: list[int] = []

    def fits(size: int) -> bool:
        tried.append(size)
        return size <= limit

    assert largest(fits, most) == min(limit, most)
    assert all(1 <= each <= most for each in tried)
    assert len(tried) == len(set(tried))
