"""The table after a run, as people see it at 80 and 120 characters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import pytest

from pytest_flopguard.core.expectation import Expectation, Origin
from pytest_flopguard.core.measurement import FlopTally, Measurement, MemoryPeak
from pytest_flopguard.core.record import RunReport
from pytest_flopguard.reporters.terminal import render

Golden = Callable[[str, str], None]


@pytest.mark.parametrize("width", [80, 120])
def test_the_usual_run(usual_run: RunReport, golden: Golden, width: int) -> None:
    golden(f"terminal_default_{width}.txt", render(usual_run, verbosity=0, width=width))


@pytest.mark.parametrize("width", [80, 120])
def test_a_run_on_a_gpu(gpu_run: RunReport, golden: Golden, width: int) -> None:
    golden(f"terminal_gpu_{width}.txt", render(gpu_run, verbosity=0, width=width))


def test_quiet_tells_only_what_failed(usual_run: RunReport, golden: Golden) -> None:
    golden("terminal_quiet.txt", render(usual_run, verbosity=-1, width=80))


def test_verbose_has_a_row_for_each_finding(usual_run: RunReport, golden: Golden) -> None:
    golden("terminal_verbose.txt", render(usual_run, verbosity=1, width=120))


def test_very_verbose_tells_everything(build: SimpleNamespace, golden: Golden) -> None:
    run = build.run_of(build.gpt2_forward(), build.fused_unknown())
    golden("terminal_very_verbose.txt", render(run, verbosity=2, width=120))


@pytest.mark.parametrize("verbosity", [0, 1])
@pytest.mark.parametrize("width", [0, 80, 81, 90, 100, 110, 120, 140, 200])
def test_no_line_is_wider_than_the_terminal(
    usual_run: RunReport, gpu_run: RunReport, verbosity: int, width: int
) -> None:
    for run in (usual_run, gpu_run):
        lines = render(run, verbosity=verbosity, width=width).splitlines()
        assert max(map(len, lines)) <= max(width, 40)


def test_what_does_not_fit_becomes_a_list(build: SimpleNamespace) -> None:
    # Four phases, each with a lower bound's sign, and two devices: no table of 80 characters holds it.
    phases = ("forward", "backward", "recompute", "optimizer")
    counts = [build.counted("aten.mm", "a", 291_648_307_200, phase) for phase in phases]
    unknown = [replace(build.fused_mlp(), phase=phase) for phase in phases]
    peaks = tuple(
        MemoryPeak(device=device, backend="b", start_bytes=0, peak_bytes=71_403_241_472)
        for device in ("cuda:sm90", "cpu")
    )
    record = build.record("t.py::test_x", Measurement(flops=build.tally(counts, *unknown), memory=peaks))
    lines = render(build.run_of(record), verbosity=0, width=80).splitlines()
    assert lines[:8] == [
        "t.py::test_x",
        "  forward       >= 292 GFLOP",
        "  backward      >= 292 GFLOP",
        "  recompute     >= 292 GFLOP",
        "  optimizer     >= 292 GFLOP",
        "  peak memory   66.5 GiB cuda:sm90",
        "  limit         unknown ops 0",
        "  verdict       undecided",
    ]
    assert "  peak memory   66.5 GiB cpu" in lines


def test_the_optimizer_has_a_column_only_when_it_does_something(build: SimpleNamespace) -> None:
    def header(*counts: object) -> str:
        record = build.record("t.py::test_x", Measurement(flops=build.tally(counts)))
        return render(build.run_of(record), verbosity=0, width=120).splitlines()[0]

    assert header(build.counted("aten.mm", "a", 5)).split() == (
        ["test", "forward", "backward", "recompute", "limit", "used", "verdict"]
    )
    assert header(build.counted("aten.mm", "a", 5, "optimizer")).split() == (
        ["test", "forward", "backward", "recompute", "optimizer", "limit", "used", "verdict"]
    )


@pytest.mark.parametrize(
    ("limits", "word", "shown"),
    [
        ([], "no budget", "-"),
        # Measured: 100 FLOPs. The boundary passes, one below it does not.
        ([("flops", "100 FLOP", {})], "ok", "100.0%"),
        ([("flops", "99 FLOP", {})], "OVER", "101.1%"),
        ([("flops", "99 FLOP", {"severity": "warn"})], "warn", "101.1%"),
        ([("flops", "101 FLOP", {"low": True})], "UNDER", "99.0%"),
        ([("flops", "200 FLOP", {}), ("forward_flops", "125 FLOP", {})], "ok", "80.0%"),
        # A failing finding comes before a tighter one that only warns.
        ([("flops", "10 FLOP", {"severity": "warn"}), ("forward_flops", "99 FLOP", {})], "OVER", "101.1%"),
        ([("peak_memory", "1 GiB", {})], "undecided", "-"),
    ],
)
def test_the_verdict_and_the_tightest_limit(build: SimpleNamespace, limits: list, word: str, shown: str) -> None:
    expectations = [build.limit(quantity, amount, "a.py:1", **extra) for quantity, amount, extra in limits]
    measured = Measurement(flops=build.tally([build.counted("aten.mm", "a", 100)]))
    text = render(build.run_of(build.record("t.py::test_x", measured, *expectations)), verbosity=0, width=120)
    row = next(line for line in text.splitlines() if line.startswith("  test_x"))
    assert row.endswith(word)
    assert row.removesuffix(word).split()[-1] == shown


def test_engines_that_disagree_are_told_with_both_numbers(build: SimpleNamespace) -> None:
    other = FlopTally(engine="fvcore", counts=(build.counted("aten.mm", "a", 90),))
    expected = Expectation(
        quantity="forward_flops", low=90, high=90, origin=Origin(path="pyproject.toml", line=4), source="cross-check"
    )
    seen = Measurement(flops=build.tally([build.counted("aten.mm", "a", 100)]), other_tallies=(other,))
    text = render(build.run_of(build.record("t.py::test_x", seen, expected)), verbosity=-1, width=80)
    assert text.splitlines()[0] == (
        "DIFFERS t.py::test_x: forward FLOPs: dispatch counts 100 FLOP, fvcore counts 90 FLOP [cross-check] "
        "pyproject.toml:4"
    )


def test_the_same_reason_is_told_once_with_its_tests(build: SimpleNamespace) -> None:
    measured = Measurement(flops=build.tally([], build.fused_mlp(calls=2)))
    records = [build.record(f"t.py::test_{i}", measured) for i in range(5)]
    lines = render(build.run_of(*records), verbosity=0, width=120).splitlines()
    start = lines.index(
        "undecided: FLOPs: at least 0 FLOP, not exactly known; 1 op without a FLOP formula ran [unknown-op]"
    )
    assert lines[start + 1 :] == [
        "  t.py::test_0",
        "  t.py::test_1",
        "  t.py::test_2",
        "  and 2 more",
        "ops without a formula: mylib.fused_mlp x10",
        "5 measured: 5 failed",
    ]


def test_records_that_workers_mixed_stand_under_one_heading_a_file(build: SimpleNamespace) -> None:
    seen = Measurement(flops=build.tally([]))
    names = ["b.py::test_1", "a.py::test_2", "b.py::test_3", "a.py::test_4"]
    lines = render(build.run_of(*(build.record(name, seen) for name in names)), verbosity=0, width=120).splitlines()
    assert [line.split()[0] for line in lines[2:8]] == ["b.py", "test_1", "test_3", "a.py", "test_2", "test_4"]


def test_notes_and_an_empty_run() -> None:
    run = RunReport(tool={}, environment={}, notes=("tests/test_a.py::test_b ran twice",))
    assert render(run, verbosity=0, width=80) == "note: tests/test_a.py::test_b ran twice\n0 measured"
    assert render(run, verbosity=-1, width=80) == "0 measured"


def test_what_was_not_measured_shows_no_number(build: SimpleNamespace) -> None:
    measured = Measurement(unavailable={"flops": "the model cannot be traced"})
    text = render(
        build.run_of(build.record("t.py::test_x", measured, build.limit("flops", "1 GFLOP", "a.py:3"))),
        verbosity=0,
        width=120,
    )
    assert "undecided: FLOPs: not measured, the model cannot be traced [not-measured] a.py:3" in text
    assert "0 FLOP" not in text
