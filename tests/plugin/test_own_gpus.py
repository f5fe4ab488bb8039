"""GPUs that a project describes in its settings, and tests that are simulated on them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch._dynamo.config  # noqa: F401

# Runs in this process must not import the rest of torch anew, nor what fake tensors import.
import pytest_flopguard.backends.simulated.memory  # noqa: F401

Project = Callable[..., pytest.Pytester]
Run = Callable[..., pytest.RunResult]

CARD = """
[tool.flopguard.gpus.lab-card]
capability = "8.9"
multiprocessors = 60
memory = "1 GiB"
l2-cache = "48 MiB"
"""


def test_a_test_runs_on_a_gpu_of_the_project(project: Project, run: Run, report: Callable[[], dict[str, Any]]) -> None:
    project(
        """
COUNT = torch.cuda.get_device_properties(0).multi_processor_count

def test_it(flopguard):
    seen = torch.cuda.get_device_properties("cuda")
    assert (seen.name, seen.total_memory, seen.multi_processor_count, COUNT) == ("lab-card", 2**30, 60, 60)
    assert torch.cuda.get_device_capability() == (8, 9)
    # 1 GiB less 500 MiB for the context are 524 MiB.
    torch.empty(520 * 2**20, dtype=torch.uint8, device="cuda")
    with pytest.raises(torch.OutOfMemoryError):
        torch.empty(530 * 2**20, dtype=torch.uint8, device="cuda")
""",
        CARD,
    )
    run("--flop-budget", "--flop-device=sim:lab-card", "--flop-report=report.json").assert_outcomes(passed=1)
    (record,) = report()["records"]
    assert record["memory"]["device"] == "sim:lab-card"
    assert record["memory"]["prediction"]["device"] == "cuda:sm89"
    result = run("--flop-budget", "--flop-device=sim:lab-cart")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*unknown GPU to simulate 'lab-cart'; known are *lab-card; did you mean 'lab-card'?*"])


def test_all_mistakes_are_reported_at_once(project: Project, run: Run) -> None:
    project(
        "def test_it(): forward()",
        """[tool.flopguard.gpus.h100]
memory = "1 GiB"
[tool.flopguard.gpus.one]
capability = "8.7"
multiprocessors = true
memory = "1 GB/s"
l2_cache = 0
[tool.flopguard.gpus.two]
capability = 8.9
multiprocessors = 0
memory = 0
l2-cache = 1.5
""",
    )
    result = run("--flop-budget")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    lines = [line for line in result.errlines if line.startswith("pyproject.toml:")]
    assert [int(line.split(":")[1]) for line in lines] == [1, 3, 4, 5, 6, 7, 9, 10, 11, 12]
    text = result.stderr.str()
    for part in ("it spells 'h100'", "did you mean 'l2-cache'?", "missing: l2-cache", "one of '7.0', '7.5'"):
        assert part in text


def test_a_nested_project_cannot_describe_gpus_for_the_run(project: Project, run: Run) -> None:
    pytester = project("def test_it(): forward()", CARD)
    inner = pytester.mkdir("inner")
    (inner / "pyproject.toml").write_text(CARD)
    (inner / "test_inner.py").write_text("def test_it(): pass")
    result = run("--flop-budget")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*inner/pyproject.toml:*one run has one gpus*"])
