"""Peaks with memory known to be missing: lower bounds in every output, and limits that they leave undecided."""

from __future__ import annotations

from collections.abc import Callable
from html import unescape
from typing import Any

import pytest
import torch._dynamo.config  # noqa: F401

# Runs in this process must not import the rest of torch anew.
import pytest_flopguard.backends.simulated.memory  # noqa: F401

pytestmark = pytest.mark.slow

Project = Callable[..., pytest.Pytester]
Run = Callable[..., pytest.RunResult]
Report = Callable[[], dict[str, Any]]
SIM = ("--flop-budget", "--flop-device=sim:a100")
MIB = 2**20

# float32: the weight is 64 x 64 x 3 x 3 x 4 = 147,456 bytes, a multiple of 512. Input and output are 64 x 64 x 64 x 4
# bytes, 1 MiB each. What cuDNN takes is not known, and has no bound.
CONVOLUTION = """
@pytest.mark.flop_budget(peak_memory={{"sim": "{limit}"}})
def test_conv(flopguard):
    conv = nn.Conv2d(64, 64, 3, padding=1, bias=False, device=flopguard.device)
    with torch.no_grad():
        conv(torch.zeros(1, 64, 64, 64, device=flopguard.device))
"""
KNOWN = 147_456 + 2 * MIB


def test_a_limit_is_undecided_where_memory_is_missing(project: Project, run: Run, report: Report) -> None:
    project(CONVOLUTION.format(limit="3 GiB"))
    result = run(*SIM, "--flop-report=report.json", "--flop-report=report.md", "--junitxml=junit.xml")  # fmt: skip
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["*peak memory on sim:a100-80gb: at least 2.14 MiB, and not decided against the limit of 3 GiB: "
         "not known is cuDNN's workspace for a convolution over 1x64x64x64 float32 *memory-unknown]*"]
    )  # fmt: skip
    result.stdout.fnmatch_lines(["*test_conv*>= 2.14 MiB*undecided*"])
    (record,) = report()["records"]
    assert (record["memory"]["peak_bytes"], record["memory"]["is_lower_bound"]) == (KNOWN, True)
    assert record["memory"]["prediction"]["at_most_bytes"] is None
    assert f">= {KNOWN}" in (project("").path / "junit.xml").read_text().replace("&gt;", ">")


def test_every_text_shows_the_bound(project: Project, run: Run) -> None:
    path = project(CONVOLUTION.format(limit="3 GiB")).path
    run(*SIM, "--flop-report=report.md")
    assert ">= 2.14 MiB sim:" in unescape((path / "report.md").read_text())
    for flags in ("-q", "-vv"):
        result = run(*SIM, flags)
        assert "at least 2.14 MiB" in result.stdout.str()


def test_what_follows_from_the_bound_is_a_bound_too(project: Project, run: Run) -> None:
    path = project(CONVOLUTION.format(limit="2 MiB")).path
    result = run(*SIM, "--flop-report=report.md", "--flop-report=report.html")
    # 2,244,608 bytes of 2,097,152: 107.03 %, rounded up.
    assert KNOWN == 2_244_608
    result.stdout.fnmatch_lines(["  at least  2,244,608 B", "*test_conv *>= 2.14 MiB *2 MiB *>= 107.1%*OVER*"])
    result.stdout.fnmatch_lines(["*or more: the memory that is not known adds to it"])
    for name in ("report.md", "report.html"):
        text = unescape((path / name).read_text())
        assert ">= 2,244,608 B" in text
        assert ">= 107.1%" in text
    project(CONVOLUTION.format(limit="3 GiB"))
    run(*SIM).stdout.fnmatch_lines(['*accept  unknown-memory = "warn" in [[]tool.flopguard[]]*'])


def test_a_limit_that_the_known_part_breaks_is_broken(project: Project, run: Run) -> None:
    project(CONVOLUTION.format(limit="2 MiB"))
    result = run(*SIM)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*peak memory on sim:a100-80gb: at least 2.14 MiB, over the limit of 2 MiB*"])


def test_a_setting_lets_it_pass_with_a_warning(project: Project, run: Run) -> None:
    project(CONVOLUTION.format(limit="3 GiB"), '[tool.flopguard]\nunknown-memory = "warn"\n')
    result = run(*SIM)
    result.assert_outcomes(passed=1, warnings=1)
    result.stdout.fnmatch_lines(["*FlopguardWarning: *not decided against the limit of 3 GiB*"])
    project(CONVOLUTION.format(limit="2 MiB"), '[tool.flopguard]\nunknown-memory = "warn"\n')
    run(*SIM).assert_outcomes(failed=1)


def test_what_is_missing_and_bounded_decides_a_limit_above_the_bound(project: Project, run: Run) -> None:
    # 2 MiB of int64 are 2**18; a sort of one row of them takes two copies, and at most 64 x 2**18 = 16 MiB and 4 MiB.
    test = """
@pytest.mark.flop_budget(peak_memory={{"sim": "{limit}"}})
def test_sort(flopguard):
    torch.arange(2**18, device=flopguard.device).sort()
"""
    project(test.format(limit="30 MiB"))
    run(*SIM).assert_outcomes(passed=1)
    # The input and the two results are 6 MiB, which is less than 10.
    project(test.format(limit="10 MiB"))
    result = run(*SIM)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*memory-unknown*"])


def test_unknown_memory_of_another_region_is_not_of_this_one(project: Project, run: Run, report: Report) -> None:
    project(
        """
def test_regions(flopguard):
    conv = nn.Conv2d(64, 64, 3, padding=1, device=flopguard.device)
    with flopguard.measure("copy"):
        x = torch.zeros(1, 64, 64, 64, device=flopguard.device)
    with flopguard.measure("conv"):
        conv(x)
"""
    )
    run(*SIM, "--flop-report=report.json").assert_outcomes(passed=1)
    bounds = {each["label"]: each["memory"]["is_lower_bound"] for each in report()["records"]}
    assert bounds == {"": True, "copy": False, "conv": True}


def test_a_half_convolution_takes_its_input_and_output_once_more(project: Project, run: Run, report: Report) -> None:
    """A recording of pytorch#123533 has 4.02 GiB reserved: in and out are 1 GiB each, and cuDNN holds both again."""
    project(
        """
@pytest.mark.flop_budget(peak_memory={"sim": "3 GiB"})
def test_conv(flopguard):
    conv = nn.Conv2d(256, 256, 3, padding=1, bias=False).half().cuda()
    with torch.no_grad():
        conv(torch.zeros((1, 256, 2048, 1024), dtype=torch.half, device="cuda"))
"""
    )
    result = run(*SIM, "--flop-report=report.json")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*assumed: estimate: cuDNN's workspace for a convolution*"])
    (record,) = report()["records"]
    # 4 x 256 x 2048 x 1024 x 2 bytes, and the weight of 256 x 256 x 3 x 3 x 2.
    assert record["memory"]["peak_bytes"] == 4 * 2**30 + 1_179_648
    assert not record["memory"]["is_lower_bound"]


@pytest.mark.parametrize(
    ("kernel", "padding", "columns"),
    [
        # 64 x 3 x 3 x 64 x 64 x 4 bytes of one sample, unfolded.
        (3, 1, 9_437_184),
        # The array is made also where one element a filter needs none: 64 x 64 x 64 x 4.
        (1, 0, 1_048_576),
    ],
)
def test_the_convolution_of_torch_unfolds_one_sample(
    project: Project, run: Run, report: Report, kernel: int, padding: int, columns: int
) -> None:
    project(
        f"""
def test_conv(flopguard):
    conv = nn.Conv2d(64, 64, {kernel}, padding={padding}, bias=False, device=flopguard.device)
    x = torch.zeros(2, 64, 64, 64, device=flopguard.device)
    with torch.no_grad(), torch.backends.cudnn.flags(enabled=False):
        conv(x)
"""
    )
    run(*SIM, "--flop-report=report.json").assert_outcomes(passed=1)
    (record,) = report()["records"]
    # Input and output of two samples are 2 MiB each; the weight is 64 x 64 x kernel x kernel x 4.
    weight = 64 * 64 * kernel * kernel * 4
    assert record["memory"]["peak_bytes"] == 4 * MIB + weight + columns
    assert not record["memory"]["is_lower_bound"]
