"""The judge: what is met, broken and undecided, at the boundary and next to it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_flopguard.core.expectation import Expectation, Origin, Quantity, Severity, Source
from pytest_flopguard.core.measurement import (
    FlopTally,
    Measurement,
    MemoryPeak,
    OpCount,
    ParameterCount,
    Phase,
    UnknownOp,
)
from pytest_flopguard.core.verdict import Finding, judge

ORIGIN = Origin(path="pyproject.toml", line=3, text='flops = "1 kFLOP"')
FLOPS: dict[Phase, int] = {"forward": 1000, "backward": 2000, "recompute": 400, "optimizer": 30}


def limit(
    quantity: Quantity = "flops",
    high: int | None = None,
    low: int | None = None,
    device: str | None = None,
    severity: Severity = "error",
    source: Source = "budget",
) -> Expectation:
    return Expectation(
        quantity=quantity, low=low, high=high, origin=ORIGIN, device=device, severity=severity, source=source
    )


def tally(flops: dict[Phase, int] = FLOPS, unknown: tuple[Phase, ...] = ()) -> FlopTally:
    return FlopTally(
        engine="dispatch",
        counts=tuple(
            OpCount(op="aten.mm", module="", phase=phase, kind="counted", calls=1, flops=each)
            for phase, each in flops.items()
        ),
        unknown_ops=tuple(
            UnknownOp(op="my.op", call="my.op(float32[2])", module="", phase=phase, calls=1, reason="no formula")
            for phase in unknown
        ),
    )


def peak(device: str = "cpu", start: int = 100, top: int = 1000, index: int = 0) -> MemoryPeak:
    return MemoryPeak(device=device, backend="test", start_bytes=start, peak_bytes=top, index=index)


def only(measurement: Measurement, expectation: Expectation) -> Finding:
    (finding,) = judge(measurement, [expectation])
    assert finding.expectation is expectation
    return finding


MEASURED = Measurement(flops=tally(), memory=(peak(),), parameters=ParameterCount(count=7, bytes=28))


@pytest.mark.parametrize(
    ("quantity", "observed"),
    [
        # 1000 + 2000 + 400 + 30
        ("flops", 3430),
        ("forward_flops", 1000),
        ("backward_flops", 2000),
        ("recompute_flops", 400),
        ("optimizer_flops", 30),
        ("peak_memory", 1000),
        # 1000 - 100
        ("memory_growth", 900),
        ("parameters", 7),
        ("parameter_bytes", 28),
    ],
)
def test_a_limit_holds_up_to_its_value(quantity: Quantity, observed: int) -> None:
    at = only(MEASURED, limit(quantity, high=observed))
    assert (at.observed, at.status, at.code, at.fails) == (observed, "met", "within-budget", False)
    over = only(MEASURED, limit(quantity, high=observed - 1))
    assert (over.observed, over.status, over.code, over.fails) == (observed, "broken", "over-budget", True)
    least = only(MEASURED, limit(quantity, low=observed))
    assert (least.status, least.code, least.fails) == ("met", "within-budget", False)
    under = only(MEASURED, limit(quantity, low=observed + 1))
    assert (under.observed, under.status, under.code, under.fails) == (observed, "broken", "under-budget", True)


def test_a_warning_is_broken_and_fails_nothing() -> None:
    finding = only(MEASURED, limit(high=1, severity="warn"))
    assert (finding.status, finding.code, finding.fails) == ("broken", "over-budget", False)


def test_a_broken_cross_check_has_its_own_code() -> None:
    expectation = limit("forward_flops", high=999, low=999, source="cross-check")
    finding = only(MEASURED, expectation)
    assert (finding.status, finding.code) == ("broken", "cross-check")
    assert only(MEASURED, limit("forward_flops", high=1000, low=1000, source="cross-check")).status == "met"


def test_next_to_an_unknown_op_a_limit_is_undecided_and_fails() -> None:
    measurement = Measurement(flops=tally(unknown=("forward",)))
    finding = only(measurement, limit(high=3430))
    assert (finding.observed, finding.status, finding.code, finding.fails) == (None, "undecided", "unknown-op", True)
    assert not only(measurement, limit(high=3430, severity="warn")).fails


def test_a_lower_bound_over_the_limit_breaks_it_whatever_the_unknown_op_costs() -> None:
    finding = only(Measurement(flops=tally(unknown=("forward",))), limit(high=3429))
    assert (finding.observed, finding.status, finding.code, finding.fails) == (3430, "broken", "over-budget", True)


def test_the_least_expected_is_undecided_next_to_an_unknown_op() -> None:
    finding = only(Measurement(flops=tally(unknown=("forward",))), limit(low=9999))
    assert (finding.observed, finding.status, finding.code) == (None, "undecided", "unknown-op")


def test_an_unknown_op_hides_its_own_phase_only() -> None:
    measurement = Measurement(flops=tally(unknown=("backward",)))
    assert only(measurement, limit("forward_flops", high=1000)).status == "met"
    assert only(measurement, limit("backward_flops", high=2000)).status == "undecided"
    assert only(measurement, limit("backward_flops", high=1999)).status == "broken"


@pytest.mark.parametrize(("severity", "fails"), [("error", True), ("warn", False)])
def test_unknown_ops_are_undecided_by_themselves(severity: Severity, fails: bool) -> None:
    expectation = limit("unknown_ops", high=0, severity=severity)
    finding = only(Measurement(flops=tally(unknown=("forward", "backward"))), expectation)
    assert (finding.observed, finding.status, finding.code, finding.fails) == (2, "undecided", "unknown-op", fails)
    known = only(MEASURED, expectation)
    assert (known.observed, known.status, known.code, known.fails) == (0, "met", "within-budget", False)


@pytest.mark.parametrize(
    ("quantity", "unavailable", "reason"),
    [
        ("flops", {"flops": "torch is not installed"}, "torch is not installed"),
        ("flops", {}, "no FLOP engine ran"),
        ("unknown_ops", {}, "no FLOP engine ran"),
        ("parameters", {"parameters": "no module was given"}, "no module was given"),
        ("parameter_bytes", {}, "no nn.Module ran"),
        ("peak_memory", {"memory": "no memory backend"}, "no memory backend"),
        ("memory_growth", {}, "no tensor was allocated"),
    ],
)
def test_what_was_not_measured_is_undecided_and_fails(
    quantity: Quantity, unavailable: dict[str, str], reason: str
) -> None:
    finding = only(Measurement(unavailable=unavailable), limit(quantity, high=10**30))
    assert (finding.observed, finding.status, finding.code) == (None, "undecided", "not-measured")
    assert (finding.reason, finding.fails) == (reason, True)


def test_the_best_device_match_decides() -> None:
    limits = [
        limit("peak_memory", high=1),
        limit("peak_memory", high=2, device="cuda"),
        limit("peak_memory", high=1000, device="cuda:sm90"),
        limit("peak_memory", high=3, device="cuda:sm80"),
    ]
    (finding,) = judge(Measurement(memory=(peak("cuda:sm90"),)), limits)
    assert (finding.expectation, finding.device, finding.status) == (limits[2], "cuda:sm90", "met")
    (finding,) = judge(Measurement(memory=(peak("cuda:sm75"),)), limits)
    assert (finding.expectation, finding.status) == (limits[1], "broken")
    (finding,) = judge(Measurement(memory=(peak("cpu"),)), limits)
    assert (finding.expectation, finding.status) == (limits[0], "broken")


def test_every_measured_device_is_judged() -> None:
    limits = [limit("peak_memory", high=1000, device="cpu"), limit("peak_memory", high=10, device="cuda")]
    memory = (peak("cpu"), peak("cuda:sm90"), peak("cuda:sm90", top=10, index=1))
    found = [(each.device, each.observed, each.status) for each in judge(Measurement(memory=memory), limits)]
    assert found == [("cpu", 1000, "met"), ("cuda:sm90", 1000, "broken"), ("cuda:sm90", 10, "met")]


def test_limits_with_the_same_key_are_all_held() -> None:
    limits = [limit("peak_memory", high=1000, device="cpu"), limit("peak_memory", high=999, device="cpu")]
    assert [each.status for each in judge(MEASURED, limits)] == ["met", "broken"]


def test_a_better_key_of_a_budget_does_not_hide_a_baseline() -> None:
    limits = [
        limit("peak_memory", high=1000, device="cpu"),
        limit("peak_memory", high=999, source="baseline"),
    ]
    assert [each.status for each in judge(MEASURED, limits)] == ["met", "broken"]


def test_a_limit_for_an_absent_device_is_undecided_and_fails_nothing() -> None:
    finding = only(MEASURED, limit("peak_memory", high=1, device="cuda"))
    assert (finding.observed, finding.status, finding.code) == (None, "undecided", "device-absent")
    assert (finding.reason, finding.fails) == ("", False)


def test_an_absent_device_is_not_told_where_another_limit_decides() -> None:
    limits = [limit("peak_memory", high=1, device="cuda"), limit("peak_memory", high=1000, device="cpu")]
    assert [each.expectation for each in judge(MEASURED, limits)] == [limits[1]]


@pytest.mark.parametrize("key", ["cuda", "cuda:sm90"])
def test_an_absent_device_keeps_the_reason_why_it_is(key: str) -> None:
    measurement = Measurement(unavailable={"flops": "no torch", "cuda": "no CUDA driver"})
    finding = only(measurement, limit("peak_memory", high=1, device=key))
    assert (finding.code, finding.reason, finding.fails) == ("device-absent", "no CUDA driver", False)


def test_the_cpu_is_never_absent() -> None:
    measurement = Measurement(memory=(peak("cuda:sm90"),), unavailable={"cpu": "needs the dispatch engine"})
    finding = only(measurement, limit("peak_memory", high=1, device="cpu"))
    assert (finding.code, finding.reason, finding.fails) == ("not-measured", "needs the dispatch engine", True)


def test_without_expectations_nothing_is_found() -> None:
    assert judge(MEASURED, []) == ()


@given(st.integers(min_value=0), st.integers(min_value=0), st.integers(min_value=0))
def test_met_is_exactly_inside_the_interval(observed: int, one: int, other: int) -> None:
    low, high = sorted((one, other))
    finding = only(Measurement(flops=tally({"forward": observed})), limit(low=low, high=high))
    assert (finding.status == "met") == (low <= observed <= high)
    assert finding.fails == (finding.status == "broken")


@given(
    st.dictionaries(st.sampled_from(list(FLOPS)), st.integers(min_value=0)),
    st.lists(st.sampled_from(list(FLOPS)), min_size=1).map(tuple),
    st.integers(min_value=0),
    st.sampled_from(["flops", "forward_flops", "backward_flops", "recompute_flops", "optimizer_flops"]),
)
def test_no_limit_is_met_where_an_unknown_op_may_break_it(
    flops: dict[Phase, int], unknown: tuple[Phase, ...], high: int, quantity: Quantity
) -> None:
    finding = only(Measurement(flops=tally(flops, unknown)), limit(quantity, high=high))
    if quantity == "flops" or quantity.removesuffix("_flops") in unknown:
        known = sum(flops.values()) if quantity == "flops" else flops.get(quantity.removesuffix("_flops"), 0)
        assert finding.status == ("broken" if known > high else "undecided")
    else:
        assert finding.status in ("met", "broken")


@given(st.integers(min_value=0), st.integers(min_value=0), st.integers(min_value=0))
def test_a_higher_limit_never_breaks_what_a_lower_one_lets_pass(observed: int, high: int, more: int) -> None:
    measurement = Measurement(memory=(peak(start=0, top=observed),))
    tight = only(measurement, limit("peak_memory", high=high))
    loose = only(measurement, limit("peak_memory", high=high + more))
    assert tight.fails or not loose.fails
