"""The text of a failed test: value, limit, place, ways out, dearest modules, and the codes."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import pytest

from pytest_flopguard.core.expectation import UNITS, Expectation, Origin
from pytest_flopguard.core.measurement import FlopTally, Measurement, ParameterCount
from pytest_flopguard.core.record import Record
from pytest_flopguard.core.units import parse_amount
from pytest_flopguard.core.verdict import judge
from pytest_flopguard.reporters.failure import render

Golden = Callable[[str, str], None]


@pytest.fixture
def resnet_twice_over(build: SimpleNamespace) -> Record:
    """FLOPs and memory broken at once, both as errors."""
    measured = build.resnet_over().measurement
    return build.record(
        "tests/vision/test_resnet.py::test_resnet50",
        measured,
        build.limit("flops", "8 GFLOP", "pyproject.toml:28"),
        build.limit("peak_memory", "200 MiB", "pyproject.toml:29", device="cpu"),
    )


def test_a_broken_flop_budget(build: SimpleNamespace, golden: Golden) -> None:
    golden("failure_flops.txt", render(build.gpt2_backward(), verbosity=0))


def test_several_broken_budgets(resnet_twice_over: Record, golden: Golden) -> None:
    golden("failure_several.txt", render(resnet_twice_over, verbosity=0))


def test_an_unknown_op(build: SimpleNamespace, golden: Golden) -> None:
    golden("failure_unknown_op.txt", render(build.fused_unknown(), verbosity=0))


def test_quiet_is_one_line_with_every_finding(resnet_twice_over: Record) -> None:
    # 16,356,737,024 - 8,000,000,000 = 8,356,737,024, which is 104.459 % of 8e9.
    # 272,023,712 - 209,715,200 = 62,308,512 bytes = 59.42 MiB, which is 29.711 % of 200 MiB.
    assert render(resnet_twice_over, verbosity=-1) == (
        "FLOPs: 16.36 GFLOP, over the limit of 8 GFLOP by 8.36 GFLOP (104.46%) [over-budget] pyproject.toml:28; "
        "peak memory on cpu: 259.42 MiB, over the limit of 200 MiB by 59.42 MiB (29.71%) [over-budget] "
        "pyproject.toml:29"
    )


def test_very_verbose_holds_everything(resnet_twice_over: Record) -> None:
    text = render(resnet_twice_over, verbosity=2)
    modules = resnet_twice_over.measurement.flops.by_module()
    assert len(modules) == 54  # 53 convolutions and the classifier
    assert [name for name in modules if f"  {name}\n" not in text] == []
    assert "272,023,712  peak" in text
    assert text.endswith("over-budget: docs/reference/messages.md#over-budget")


def test_by_one(build: SimpleNamespace) -> None:
    seen = Measurement(flops=build.tally(build.gpt2()))
    passing = build.record("t.py::t", seen, build.limit("flops", "291648307200 FLOP", "t.py:3"))
    assert passing.outcome == "passed"
    broken = build.record("t.py::t", seen, build.limit("flops", "291648307199 FLOP", "t.py:3"))
    text = render(broken, verbosity=0)
    assert text.startswith("FLOPs: 291.65 GFLOP, over the limit of 291.65 GFLOP by 1 FLOP (<0.01%) [over-budget]\n")
    assert "  measured  291,648,307,200 FLOP\n" in text
    assert "  limit     291,648,307,199 FLOP\n" in text
    assert re.search(r"\n  over by  +1 FLOP\n", text)


@pytest.mark.parametrize(
    ("written", "amount", "suggested"),
    [
        ('flops = "580 GFLOP"', "580 GFLOP", 'flops = "583.3 GFLOP"'),
        ("flops = '580 GFLOP'", "580 GFLOP", "flops = '583.3 GFLOP'"),
        ("flops=580_000_000_000", "580 GFLOP", 'flops="583.3 GFLOP"'),
        ("flops = 5.8e11", "580 GFLOP", 'flops = "583.3 GFLOP"'),
        (
            'flops = { limit = "580 GFLOP", severity = "error" }',
            "580 GFLOP",
            'flops = { limit = "583.3 GFLOP", severity = "error" }',
        ),
        # With a tolerance inside the limit the number that stands there is another one: only the amount is told.
        ('flops = { limit = "570 GFLOP", tolerance = "1%" }', "575.7 GFLOP", '"583.3 GFLOP" for flops'),
        ("flops=limit_of(model)", "580 GFLOP", '"583.3 GFLOP" for flops'),
        ("", "580 GFLOP", '"583.3 GFLOP" for flops'),
    ],
)
def test_the_raised_limit_is_written_in_the_words_that_stand_there(
    build: SimpleNamespace, written: str, amount: str, suggested: str
) -> None:
    expectation = Expectation(
        quantity="flops",
        high=parse_amount(amount, UNITS["flops"]),
        origin=Origin(path="pyproject.toml", line=24, text=written),
    )
    measurement = build.gpt2_backward().measurement
    record = Record(nodeid="t.py::t", measurement=measurement, findings=judge(measurement, [expectation]))
    text = render(record, verbosity=0)
    assert f"  raise   at pyproject.toml:24 write {suggested}\n" in text
    assert parse_amount("583.3 GFLOP", UNITS["flops"]) >= measurement.flops.total


def test_too_little_is_lowered(build: SimpleNamespace) -> None:
    limit = build.limit("flops", "600 GFLOP", "pyproject.toml:9", low=True)
    text = render(build.record("t.py::t", build.gpt2_backward().measurement, limit), verbosity=0)
    # 600,000,000,000 - 583,296,614,400 = 16,703,385,600, which is 2.784 % of 6e11.
    assert text.startswith(
        "FLOPs: 583.3 GFLOP, under the least expected 600 GFLOP by 16.7 GFLOP (2.78%) [under-budget]"
    )
    assert "  under by   16,703,385,600 FLOP\n" in text
    assert '  lower   at pyproject.toml:9 write flops = "583.29 GFLOP"\n' in text


def test_a_phase_shows_the_modules_of_that_phase(build: SimpleNamespace) -> None:
    counts = [
        build.counted("aten.mm", "cheap_backward", 900),
        build.counted("aten.mm", "dear_backward", 300, "backward"),
        build.counted("aten.mm", "cheap_backward", 100, "backward"),
    ]
    limit = build.limit("backward_flops", "399 FLOP", "t.py:1")
    text = render(build.record("t.py::t", Measurement(flops=build.tally(counts)), limit), verbosity=0)
    assert "What costs most, of 400 FLOP (backward FLOPs)\n   75.00%       300 FLOP  dear_backward\n" in text


def test_a_total_tells_its_phases(build: SimpleNamespace) -> None:
    counts = [build.counted("aten.mm", "a", 100), build.counted("aten.mm", "a", 50, "recompute")]
    limit = build.limit("flops", "149 FLOP", "t.py:1")
    text = render(build.record("t.py::t", Measurement(flops=build.tally(counts)), limit), verbosity=0)
    assert "What costs most, of 150 FLOP\n  forward 100 FLOP, recompute 50 FLOP\n  100.00%       150 FLOP  a\n" in text


def test_only_the_dearest_ten_are_told(build: SimpleNamespace) -> None:
    # 12 modules of 1..12 FLOPs, 78 in all: the ten dearest leave 1 + 2 = 3 FLOPs, 3.846 %.
    counts = [build.counted("aten.mm", f"part_{'abcdefghijkl'[i]}", i + 1) for i in range(12)]
    limit = build.limit("flops", "77 FLOP", "t.py:1")
    text = render(build.record("t.py::t", Measurement(flops=build.tally(counts)), limit), verbosity=0)
    assert "part_c" in text
    assert "part_b\n" not in text
    assert "    3.85%         3 FLOP  in 2 more modules (-vv shows them)\n" in text


def test_parameters(build: SimpleNamespace) -> None:
    seen = Measurement(parameters=ParameterCount(count=124_439_808, bytes=497_759_232), flops=build.tally([]))
    limit = build.limit("parameters", "124 M", "t.py:1")
    text = render(build.record("t.py::t", seen, limit), verbosity=0)
    assert text.startswith("parameters: 124.44 M, over the limit of 124 M by 439.81 k (0.35%) [over-budget]")
    assert '  raise   at t.py:1 write parameters = "124.44 M"\n' in text
    assert "What costs most" not in text


def test_what_could_not_be_measured_says_why(build: SimpleNamespace) -> None:
    seen = Measurement(unavailable={"flops": "fvcore cannot trace it"})
    limit = build.limit("flops", "1 GFLOP", "t.py:4")
    record = Record(nodeid="t.py::t", measurement=seen, findings=judge(seen, [limit]))
    assert render(record, verbosity=0) == (
        "FLOPs: not measured, fvcore cannot trace it [not-measured]\n"
        "  limit     1,000,000,000 FLOP\n"
        '  written   t.py:4  flops = "1 GFLOP"\n'
        "\n"
        "Ways out\n"
        "  decide  FLOPs: make the run measure it, or take the limit at t.py:4 away\n"
        "\n"
        "not-measured: docs/reference/messages.md#not-measured"
    )


def test_engines_that_disagree(build: SimpleNamespace) -> None:
    other = FlopTally(engine="fvcore", counts=(build.counted("aten.mm", "a", 90),))
    expected = Expectation(
        quantity="forward_flops", low=90, high=90, origin=Origin(path="pyproject.toml", line=4), source="cross-check"
    )
    seen = Measurement(flops=build.tally([build.counted("aten.mm", "a", 100)]), other_tallies=(other,))
    text = render(build.record("t.py::t", seen, expected), verbosity=0)
    assert text.startswith("forward FLOPs: dispatch counts 100 FLOP, fvcore counts 90 FLOP [cross-check]")
    assert "raise" not in text
    assert text.endswith("cross-check: docs/reference/messages.md#cross-check")


def test_findings_that_fail_nothing_are_not_told(build: SimpleNamespace) -> None:
    text = render(build.resnet_over(), verbosity=0)
    assert "over the limit of 8 GFLOP" in text
    assert "peak memory" not in text  # its limit only warns


def test_where_nothing_fails_the_warnings_are_told(build: SimpleNamespace) -> None:
    seen = Measurement(flops=build.tally([build.counted("aten.mm", "a", 100)]), memory=(build.cpu_peak(inputs=8),))
    limits = [
        build.limit("flops", "99 FLOP", "t.py:1", severity="warn"),
        build.limit("peak_memory", "1 B", "t.py:2", device="cuda"),
        build.limit("forward_flops", "100 FLOP", "t.py:3"),
    ]
    assert render(build.record("t.py::t", seen, *limits), verbosity=-1) == (
        "FLOPs: 100 FLOP, over the limit of 99 FLOP by 1 FLOP (1.01%) [over-budget] t.py:1"
    )


def test_a_lower_bound_that_breaks_a_limit_says_at_least(build: SimpleNamespace) -> None:
    limit = build.limit("flops", "1 GFLOP", "t.py:1")
    seen = Measurement(flops=build.tally([build.counted("aten.mm", "a", 3_000_000_000)], build.fused_mlp()))
    text = render(build.record("t.py::t", seen, limit), verbosity=0)
    assert text.startswith("FLOPs: at least 3 GFLOP, over the limit of 1 GFLOP by 2 GFLOP (200.00%) [over-budget]")
    assert 'write flops = "3 GFLOP", or more: ops without a formula add to it\n' in text
    assert text.endswith(
        "over-budget: docs/reference/messages.md#over-budget\nunknown-op: docs/reference/messages.md#unknown-op"
    )


def test_a_fused_kernel_in_every_layer_is_told_once(build: SimpleNamespace) -> None:
    ops = [replace(build.fused_mlp(calls=1), module=f"encoder.layers.{i}.mlp") for i in range(12)]
    text = render(build.record("t.py::t", Measurement(flops=build.tally([], *ops))), verbosity=0)
    assert "  mylib.fused_mlp x12: no formula is registered for it\n" in text
    assert "      in encoder.layers.0-11.mlp\n" in text
    assert text.count("@registry.op") == 1
