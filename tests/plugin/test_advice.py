"""What messages advise is right: for a limit that is not decided, a broken one, and a baseline that is not written."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

Project = Callable[..., pytest.Pytester]
Run = Callable[..., pytest.RunResult]


def test_the_mark_that_accepts_a_broken_budget_is_right_in_plain_runs_too(project: Project, run: Run) -> None:
    test = "@pytest.mark.flop_budget(flops=2047)\ndef test_dear(): forward()\n"
    project(test)
    advice = run("--flop-budget").stdout.str()
    start = advice.index("xfail(")
    mark = advice[start : advice.index(" on the test", start)]
    project(f"@pytest.mark.{mark}\n{test}" + f"\n@pytest.mark.{mark}\ndef test_wrong(): assert False\n")
    # A broken budget is expected; an assertion that fails is not.
    run("--flop-budget").assert_outcomes(xfailed=1, failed=1)
    run().assert_outcomes(xpassed=1, failed=1)


def test_a_baseline_that_cannot_be_written_costs_neither_summary_nor_report(
    project: Project, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CI", raising=False)
    pytester = project("def test_a(): forward()\n")
    other = pytester.mkdir("other")
    (other / "test_b.py").write_text((pytester.path / "test_model.py").read_text())
    # No user, not even root, can open a directory as the lock.
    (pytester.mkdir("__flopguard__") / ".lock").mkdir()
    result = run("--flop-update=new", "--flop-report=run.json")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stdout.fnmatch_lines(["*__flopguard__/test_model.toml: the baselines were not written: *", "2 measured: *"])
    assert (pytester.path / "run.json").exists()
    # The other module's baseline is written.
    assert (other / "__flopguard__" / "test_b.toml").exists()


def test_a_limit_for_a_gpu_names_what_would_decide_it(project: Project, run: Run) -> None:
    project("@pytest.mark.flop_budget(peak_memory={'cuda': '1 MiB', 'sim': '1 MiB'})\ndef test_a(): forward()\n")
    result = run("--flop-budget")
    result.assert_outcomes(passed=1)
    text = " ".join(result.stdout.str().split())
    reason = "no CUDA device is visible" if torch.version.cuda else "torch was built without CUDA"
    assert f"limit is for cuda only, and this run measured cpu ({reason}): add predict = true" in text
    assert "the limit is for sim only, and this run measured cpu: run this test with --flop-device=sim" in text


@pytest.mark.slow
def test_limits_for_cpu_and_cuda_do_not_fail_on_a_simulated_gpu(project: Project, run: Run) -> None:
    project("@pytest.mark.flop_budget(peak_memory={'cpu': '1 MiB', 'cuda': '1 MiB'})\ndef test_a(): forward()\n")
    result = run("--flop-budget", "--flop-device=sim:h100")
    result.assert_outcomes(passed=1)
    text = " ".join(result.stdout.str().split())
    assert "a run on a simulated GPU measures its memory only): run this test without --flop-device too" in text
    assert "the limit is for cuda only" in text


def test_a_label_of_two_lines_is_one_name(project: Project, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    project(
        "def test_a(flopguard):\n"
        "    with flopguard.measure('two\\nlines \\x1b[31m'):\n"
        "        forward()\n"
        "\ndef test_b(): assert False\n"
    )
    result = run("--flop-update=new")
    result.assert_outcomes(passed=1, failed=1)
    assert "two lines \\x1b[31m" in result.stdout.str()
    run("--flop-budget").stdout.fnmatch_lines(["2 measured: 2 ok"])
