"""Every setting that is read changes what happens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pytest_flopguard.budgets.options import OPTIONS

Project = Callable[..., pytest.Pytester]
Run = Callable[..., pytest.RunResult]

FORWARD = "def test_forward(): forward()"
CAUSAL = '[tool.flopguard]\nattention = "causal"\n'
BITES = {
    # name: (tests, pyproject, outcomes)
    "tolerance": (
        "@pytest.mark.flop_budget(flops=2008)\n" + FORWARD,  # 2,008 + 2 % = 2,048.16: passes
        '[tool.flopguard]\ntolerance = "2%"\n',
        {"passed": 1},
    ),
    "budgets": (FORWARD, '[tool.flopguard.budgets."test_model.py::test_forward"]\nflops = 2047\n', {"failed": 1}),
    "default-budget": (FORWARD, "[tool.flopguard.default-budget]\nflops = 2047\n", {"failed": 1}),
    # Nothing was accepted for it.
    "strict": (FORWARD, "[tool.flopguard]\nstrict = true\n", {"failed": 1}),
    "attention": (
        # 1 batch and head, sums of 8, 2 FLOPs each, twice: 32 for each of 4 * 5 / 2 pairs. Dense has 16 pairs.
        "@pytest.mark.flop_budget(flops=320)\n"
        "def test_attention():\n"
        "    x = torch.zeros(1, 1, 4, 8)\n"
        "    torch.nn.functional.scaled_dot_product_attention(x, x, x, is_causal=True)\n",
        CAUSAL,
        {"passed": 1},
    ),
}
# Where the others are shown: a test of this name, here or in the named file.
ELSEWHERE = {
    "enabled": "test_off.py",
    "report": "test_report_file.py",
    "unknown-ops": "test_unknown_ops.py",
    "unknown-memory": "test_unknown_memory.py",
    "update": "test_baseline_update.py",
    "reason": "test_baseline_update.py",
    "update-in-ci": "test_baseline_update.py",
    "why": "test_baseline_why.py",
    "improvement": "test_baseline_update.py",
    "measure": "test_measure_guarded_leaves_the_others_alone",
    "engine": "test_engine_fvcore_counts_checks_and_says_what_it_cannot",
    "warm-up": "test_memory_failures.py",
    "device": "test_simulated_gpu.py",
    "gpus": "test_own_gpus.py",
    "bytes-moved": "test_bytes_moved_are_told_by_module",
    "cross-check": "test_cross_check_holds_two_engines_together",
}


def test_every_setting_is_shown_to_bite() -> None:
    assert {each.name for each in OPTIONS} == set(BITES) | set(ELSEWHERE)


@pytest.mark.parametrize("name", BITES)
def test_a_setting_bites(project: Project, run: Run, name: str) -> None:
    tests, pyproject, outcomes = BITES[name]
    project(tests, pyproject)
    run("--flop-budget").assert_outcomes(**outcomes)


def test_measure_guarded_leaves_the_others_alone(
    project: Project, run: Run, report: Callable[[], dict[str, Any]]
) -> None:
    project(FORWARD, '[tool.flopguard]\nmeasure = "guarded"\n')
    run("--flop-budget", "--flop-report=report.json").assert_outcomes(passed=1)
    assert report()["records"] == []


CHECK = """
def test_check(flopguard):
    seen = flopguard.check(nn.Linear(8, 8), torch.zeros(16, 8))
    assert seen.flops.forward == 2048

@pytest.mark.flop_budget(flops=4096)
def test_step(): forward().sum().backward()
"""


def test_engine_fvcore_counts_checks_and_says_what_it_cannot(
    project: Project, run: Run, report: Callable[[], dict[str, Any]]
) -> None:
    project(CHECK, '[tool.flopguard]\nengine = "fvcore"\n')
    result = run("--flop-budget", "--flop-report=report.json")
    # A whole test has no module and inputs to trace: its budget is undecided, with the reason, and fails.
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        ["*the fvcore engine counts only the forward call of flopguard.check(model, [*]inputs)*"]
    )
    engines = [each["flops"] and each["flops"]["engine"] for each in report()["records"]]
    assert engines == [None, "fvcore", None]


# A product that fvcore's trace cannot see, since it happens below an autograd.Function: 2 * 16 * 8 * 8 = 2,048.
HIDDEN = """
class Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, y):
        return x @ y

class Hidden(nn.Module):
    def forward(self, x):
        return Product.apply(x, torch.zeros(8, 8))

def test_hidden(flopguard):
    assert flopguard.check(Hidden(), torch.zeros(16, 8)).flops.forward == 2048
"""


def test_cross_check_holds_two_engines_together(
    project: Project, run: Run, report: Callable[[], dict[str, Any]]
) -> None:
    project(CHECK + HIDDEN, '[tool.flopguard]\ncross-check = ["fvcore"]\n')
    result = run("--flop-budget", "--flop-report=report.json")
    # They agree on the linear layer; of the function fvcore says that it does not know, which is no agreement.
    result.assert_outcomes(passed=2, failed=1)
    agreed = next(each for each in report()["records"] if each["label"] == "Linear")
    assert [(each["source"], each["observed"], each["status"]) for each in agreed["findings"]] == [
        ("cross-check", 2048, "met")
    ]
    assert agreed["cross_checks"][0]["engine"] == "fvcore"


ATTENTION = """
class Model(nn.Module):
    def forward(self, x):
        return torch.nn.functional.scaled_dot_product_attention(x, x, x, is_causal=True)

def test_check(flopguard):
    x = torch.zeros(1, 1, 4, 8)
    flopguard.check(Model(), x)
"""


def test_causal_attention_is_beside_the_dense_total(
    project: Project, run: Run, report: Callable[[], dict[str, Any]]
) -> None:
    project(ATTENTION, CAUSAL)
    run("--flop-budget", "--flop-report=report.json").assert_outcomes(passed=1)
    whole, _ = report()["records"]
    flops = whole["flops"]
    assert (flops["attention"], flops["total"], flops["dense_total"]) == ("causal", 320, 512)
    [count] = [each for each in flops["counts"] if each["flops"]]
    assert (count["flops"], count["masked_flops"]) == (512, 192)


def test_a_cross_check_compares_dense_totals(project: Project, run: Run) -> None:
    # fvcore knows no masks; that is no disagreement.
    project(ATTENTION, CAUSAL)
    run("--flop-budget", "--flop-cross-check=fvcore").assert_outcomes(passed=1)


def test_an_engine_that_knows_no_masks_is_not_taken_for_causal(project: Project, run: Run) -> None:
    project(ATTENTION + "    flopguard.check(Model(), x).flops\n", CAUSAL)
    result = run("--flop-budget", "--flop-engine=fvcore")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*the fvcore engine counts dense attention only*"])


def test_bytes_moved_are_told_by_module(project: Project, run: Run, report: Callable[[], dict[str, Any]]) -> None:
    project(FORWARD)
    run("--flop-budget", "--flop-bytes", "--flop-report=report.json").assert_outcomes(passed=1)
    [record] = report()["records"]
    moved = record["flops"]["bytes_moved"]
    assert moved["unknown"] == []
    assert moved["total"] == sum(each["read"] + each["written"] for each in moved["counts"])
    run("--flop-budget", "--flop-report=report.json").assert_outcomes(passed=1)
    assert report()["records"][0]["flops"]["bytes_moved"] is None
