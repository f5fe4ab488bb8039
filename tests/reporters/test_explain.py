"""Which budget holds, told from what budgets/resolve.py really says."""

from __future__ import annotations

from types import SimpleNamespace

from pytest_flopguard.budgets.declared import Budget
from pytest_flopguard.budgets.resolve import resolve
from pytest_flopguard.core.expectation import Expectation, Origin
from pytest_flopguard.reporters.explain import limit_words, render

NODEID = "tests/test_gpt2.py::test_forward"


def budget(rank: str, pattern: str, *limits: Expectation) -> Budget:
    return Budget(pattern=pattern, rank=rank, expectations=limits, origin=limits[0].origin)


def test_winner_and_losers(build: SimpleNamespace) -> None:
    marker = budget(
        "marker",
        "flop_budget",
        build.limit("flops", "291.7 GFLOP", "tests/test_gpt2.py:12"),
        build.limit("peak_memory", "1.2 GiB", "tests/test_gpt2.py:13", device="cpu"),
        build.limit("peak_memory", "900 MiB", "tests/test_gpt2.py:13", device="cuda", severity="warn"),
    )
    glob = budget("glob", "tests/*", build.limit("flops", "300 GFLOP", "pyproject.toml:20"))
    default = budget(
        "default",
        "default-budget",
        build.limit("flops", "1 TFLOP", "pyproject.toml:8"),
        build.limit("parameters", "200 M", "pyproject.toml:9"),
    )
    assert render(resolve(NODEID, [marker], [default, glob])) == "\n".join(
        [
            "tests/test_gpt2.py::test_forward",
            "  FLOPs",
            "    holds  at most 291.7 GFLOP",
            "           marker flop_budget",
            '           tests/test_gpt2.py:12  flops = "291.7 GFLOP"',
            "    loses  at most 300 GFLOP: a marker comes before a glob",
            "           glob tests/*",
            '           pyproject.toml:20  flops = "300 GFLOP"',
            "    loses  at most 1 TFLOP: a marker comes before the default",
            "           default default-budget",
            '           pyproject.toml:8  flops = "1 TFLOP"',
            "  peak memory",
            "    holds  at most 1.2 GiB on cpu",
            "           marker flop_budget",
            '           tests/test_gpt2.py:13  peak_memory.cpu = "1.2 GiB"',
            "    holds  at most 900 MiB on cuda, warns",
            "           marker flop_budget",
            '           tests/test_gpt2.py:13  peak_memory.cuda = "900 MiB"',
            "  parameters",
            "    holds  at most 200 M",
            "           default default-budget",
            '           pyproject.toml:9  parameters = "200 M"',
        ]
    )


def test_a_test_without_a_budget() -> None:
    assert render(resolve(NODEID, [], [])) == f"{NODEID}\n  no budget and no baseline: it is measured and passes"


def test_intervals_in_words() -> None:
    def words(low: int | None, high: int | None) -> str:
        return limit_words(Expectation(quantity="flops", low=low, high=high, origin=Origin(path="a.py")))

    assert words(None, 2000) == "at most 2 kFLOP"
    assert words(1000, None) == "at least 1 kFLOP"
    assert words(1000, 2000) == "at least 1 kFLOP and at most 2 kFLOP"
    assert words(2000, 2000) == "exactly 2 kFLOP"
