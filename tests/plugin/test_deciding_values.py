"""Ops whose work is decided by values: counted by them where they exist, else as an upper bound that is called one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import transformers.integrations.moe  # noqa: F401  # as MODEL's torch, it does not survive a second import

Project = Callable[..., pytest.Pytester]
Run = Callable[..., pytest.RunResult]
Report = Callable[[], dict[str, Any]]

# A buffer of 64 rows of width 16; each row of a group meets its group's [16, 32]: 2 * 16 * 32 = 1,024 a row.
EXPERTS = """
import torch.nn.functional as F

def experts(*ends, device="cpu"):
    x = torch.zeros(64, 16, dtype=torch.bfloat16, device=device, requires_grad=True)
    w = torch.zeros(len(ends), 16, 32, dtype=torch.bfloat16, device=device, requires_grad=True)
    return F.grouped_mm(x, w, offs=torch.tensor(ends, dtype=torch.int32, device=device))

"""
TAIL = """
@pytest.mark.flop_budget(flops="24576 FLOP")
def test_tail(): experts(8, 8, 16, 24)

@pytest.mark.flop_budget(flops="24575 FLOP")
def test_tail_over(): experts(8, 8, 16, 24)

@pytest.mark.flop_budget(flops="65536 FLOP")
def test_all(): experts(8, 8, 16, 64)

# Calls of the same shapes: 24 rows, 64 rows, 24 rows.
@pytest.mark.flop_budget(flops="114688 FLOP")
def test_same_shapes():
    experts(8, 8, 16, 24), experts(8, 8, 16, 64), experts(8, 8, 16, 24)

@pytest.mark.flop_budget(forward_flops="24576 FLOP", backward_flops="49152 FLOP")
def test_backward(): experts(8, 8, 16, 24).backward(torch.ones(64, 32, dtype=torch.bfloat16))
"""


def test_rows_beyond_the_last_group_are_not_counted(project: Project, run: Run, report: Report) -> None:
    project(EXPERTS + TAIL)
    run("--flop-budget", "--flop-report=report.json").assert_outcomes(passed=4, failed=1)
    totals = {each["nodeid"].partition("::")[2]: each["flops"]["total"] for each in report()["records"]}
    assert totals == {
        "test_tail": 24_576,
        "test_tail_over": 24_576,
        "test_all": 65_536,
        "test_same_shapes": 24_576 + 65_536 + 24_576,
        # As many for each of the two gradients.
        "test_backward": 3 * 24_576,
    }


META = """
@pytest.mark.flop_budget(flops="65536 FLOP")
def test_within(): experts(8, 8, 16, 24, device="meta")

@pytest.mark.flop_budget(flops="65535 FLOP")
def test_over(): experts(8, 8, 16, 24, device="meta")

# A product of [64, 16] @ [16, 32], known to be 65,536, is over the limit whatever the groups are.
@pytest.mark.flop_budget(flops="60000 FLOP")
def test_certainly_over():
    torch.zeros(64, 16, device="meta") @ torch.zeros(16, 32, device="meta")
    experts(8, 8, 16, 24, device="meta")
"""


def test_without_values_it_is_an_upper_bound(project: Project, run: Run, report: Report) -> None:
    project(EXPERTS + META)
    result = run("--flop-budget", "-vv", "--flop-report=report.json")
    result.assert_outcomes(passed=1, failed=2)
    result.stdout.fnmatch_lines(["*at most 65.54 kFLOP*[[]upper-bound[]]", "*at least 65.54 kFLOP, over the limit*"])
    result.stdout.fnmatch_lines(["*aten._grouped_mm is an upper bound: where the last group ends is a value*"])
    result.stdout.fnmatch_lines(["*test_within*<= 65.5 k*ok*"])
    certain, over, within = sorted(report()["records"], key=lambda each: str(each["nodeid"]))
    assert [each["status"] for each in over["findings"] if each["code"] == "upper-bound"] == ["undecided"]
    assert (within["flops"]["at_least"], certain["flops"]["at_least"]) == (0, 65_536)


VARLEN = """
from torch.nn.attention.varlen import varlen_attn

@pytest.mark.flop_budget(flops="2816 FLOP")
def test_varlen():
    with torch.device("meta"):
        q, k = torch.zeros(5, 4, 8, dtype=torch.half), torch.zeros(9, 4, 8, dtype=torch.half)
        varlen_attn(q, k, k, torch.zeros(3, dtype=torch.int32), torch.zeros(3, dtype=torch.int32), 3, 5)

@pytest.mark.flop_budget(flops="3200 FLOP")
def test_varlen_bound(): test_varlen()
"""


def test_packed_sequences_on_meta_tensors_are_bounded(project: Project, run: Run) -> None:
    # 2 * 4 heads * (8 + 8) * 5 queries * at most 5 keys = 3,200; the real lengths would make it less.
    project(VARLEN)
    result = run("--flop-budget")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*FLOPs: at most 3.2 kFLOP, and the limit is 2.82 kFLOP*lengths of packed sequences*"])


BAGS = """
import torch.nn.functional as F

def bags(padding_idx):
    table = torch.ones(10, 4)
    F.embedding_bag(torch.tensor([[1, 2, 0], [3, 0, 0]]), table, per_sample_weights=torch.ones(2, 3), mode="sum",
                    padding_idx=padding_idx)

@pytest.mark.flop_budget(flops="47 FLOP")
def test_plain(): bags(None)

@pytest.mark.flop_budget(flops="47 FLOP")
def test_padded(): bags(0)
"""


def test_padding_of_weighted_bags_is_skipped(project: Project, run: Run) -> None:
    # 6 indices of width 4: 2 * 6 * 4 = 48. With padding 3 of them are skipped, which the count does not look at.
    project(BAGS)
    result = run("--flop-budget")
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(
        ["*over the limit of 47 FLOP by 1 FLOP*", "*at most 48 FLOP, and the limit is 47 FLOP*"]
    )


FALLBACK = """
import transformers.integrations.moe

@pytest.mark.flop_budget(forward_flops="24576 FLOP", backward_flops="49152 FLOP")
def test_fallback():
    x, w = torch.zeros(64, 16, requires_grad=True), torch.zeros(4, 16, 32, requires_grad=True)
    offs = torch.tensor([8, 8, 16, 24], dtype=torch.int32)
    torch.ops.transformers.grouped_mm_fallback(x, w, offs).sum().backward()
"""


def test_transformers_own_grouped_product(project: Project, run: Run) -> None:
    project(FALLBACK)
    run("--flop-budget").assert_outcomes(passed=1)
