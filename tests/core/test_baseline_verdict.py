"""Measurements held against baselines: the accepted number passes, one more does not."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import Any

import pytest

from pytest_flopguard.core.baseline import Baseline, baseline_of
from pytest_flopguard.core.baseline_change import accept
from pytest_flopguard.core.baseline_verdict import Terms, hold
from pytest_flopguard.core.expectation import Origin
from pytest_flopguard.core.measurement import FlopTally, Measurement, MemoryPeak, OpCount, ParameterCount, UnknownOp
from pytest_flopguard.core.owners import DEFAULT_ALLOCATOR, Prediction
from pytest_flopguard.core.workload import Workload, WorkloadCall

HERE = Origin(path="__flopguard__/test_a.toml", line=4)
TERMS = Terms(torch="2.13.0+cpu", today=date(2026, 6, 1))
Said = list[tuple[str, str, str]]


def seen(
    forward: int = 2000,
    backward: int = 4000,
    peak: int = 10_000,
    device: str = "cpu",
    inputs: str = "float32[16, 8]",
    **more: Any,
) -> Measurement:
    rows = [("forward", forward), ("backward", backward)]
    counts = tuple(
        OpCount(op="aten.mm", module="Net", phase=phase, kind="counted", calls=1, flops=flops)  # type: ignore[arg-type]
        for phase, flops in rows
    )
    found = Measurement(
        flops=FlopTally(counts=counts, engine="dispatch"),
        memory=(MemoryPeak(device=device, backend="b", start_bytes=1000, peak_bytes=peak),),
        parameters=ParameterCount(count=100, bytes=400),
        workload=Workload(calls=(WorkloadCall(model="Net", inputs=inputs, config={"layers": 2}),)),
    )
    return replace(found, **more)


BASE = baseline_of(seen(), "2.13.0+cpu")


def said(measurement: Measurement, baseline: Baseline | None = BASE, terms: Terms = TERMS) -> Said:
    """Return quantity, code and severity of what is not met."""
    findings = hold(measurement, baseline, HERE, terms)
    assert all(each.expectation.source == "baseline" for each in findings)
    return [
        (each.expectation.quantity, each.code, each.expectation.severity) for each in findings if each.status != "met"
    ]


def test_the_same_numbers_are_met() -> None:
    findings = hold(seen(), BASE, HERE, TERMS)
    assert [(each.expectation.quantity, each.status) for each in findings] == [
        ("flops", "met"),
        ("parameters", "met"),
        ("peak_memory", "met"),
    ]
    assert not any(each.fails for each in findings)


@pytest.mark.parametrize(
    ("measurement", "expected"),
    [
        (seen(forward=2001), [("flops", "over-baseline", "error")]),
        (seen(forward=1999), [("flops", "under-baseline", "warn")]),
        # The total is the same, and a phase is dearer: told. The cheaper one is no win.
        (seen(forward=2001, backward=3999), [("forward_flops", "over-baseline", "error")]),
        (seen(peak=10_001), [("peak_memory", "over-baseline", "error")]),
        # Live storages are exact, but less than 2 % of memory is no win to talk about: 9,800 is the last that is none.
        (seen(peak=9_800), []),
        (seen(peak=9_799), [("peak_memory", "under-baseline", "warn")]),
        (seen(parameters=ParameterCount(count=101, bytes=404)), [("parameters", "over-baseline", "error")]),
        (seen(parameters=ParameterCount(count=100, bytes=401)), [("parameter_bytes", "over-baseline", "error")]),
        (seen(parameters=None), [("parameters", "not-measured", "error")]),
        (seen(flops=None), [("flops", "not-measured", "error")]),
        (seen(memory=()), [("peak_memory", "not-measured", "error")]),
        (seen(inputs="float32[32, 8]", forward=9999), [("flops", "workload-changed", "error")]),
        (seen(device="cuda:sm90"), [("peak_memory", "baseline-environment", "warn")]),
    ],
)
def test_what_differs_is_told_once(measurement: Measurement, expected: Said) -> None:
    if measurement.memory and measurement.memory[0].device.startswith("cuda"):
        expected = [("memory_growth", code, severity) for _, code, severity in expected]
    assert said(measurement) == expected


def test_an_op_of_unknown_cost_leaves_it_undecided_or_breaks_it_already() -> None:
    unknown = UnknownOp(op="x.y", call="x.y()", module="", phase="forward", calls=1, reason="r")
    for forward, code in ((2000, "unknown-op"), (2001, "over-baseline")):
        tally = seen(forward=forward).flops
        assert tally is not None
        assert said(seen(flops=replace(tally, unknown_ops=(unknown,)))) == [("flops", code, "error")]


def test_no_baseline_is_new_and_strict_fails_it() -> None:
    assert said(seen(), None) == [("flops", "no-baseline", "warn")]
    assert said(seen(), None, replace(TERMS, strict=True)) == [("flops", "no-baseline", "error")]


def test_strict_fails_what_another_environment_would_decide() -> None:
    for torch, measurement in (("2.12.1", seen()), ("2.13.1+cu130", seen(device="cuda:sm90"))):
        for strict, severity in ((False, "warn"), (True, "error")):
            [(_, code, told)] = said(measurement, BASE, replace(TERMS, torch=torch, strict=strict))
            assert (code, told) == ("baseline-environment", severity)
    # Another build of the same release allocates the same.
    assert said(seen(), BASE, replace(TERMS, torch="2.13.1+cu130")) == []


def predicted(allocator: str = DEFAULT_ALLOCATOR, peak: int = 10_000) -> Measurement:
    ground = Prediction(gpu="h100", device="cuda:sm90", torch="2.13.0", allocator=allocator)
    found = MemoryPeak(device="sim:h100", backend="simulated", start_bytes=1000, peak_bytes=peak, prediction=ground)
    return seen(memory=(found,))


def test_a_prediction_is_held_to_one_for_the_same_allocator_settings() -> None:
    plain, expandable = predicted(), predicted("expandable_segments:True")
    base, other = baseline_of(plain, "2.13.0"), baseline_of(expandable, "2.13.0")
    # What everybody has is not written down.
    assert (base.memory["sim:h100"].allocator, other.memory["sim:h100"].allocator) == ("", "expandable_segments:True")
    assert said(plain, base) == said(expandable, other) == []
    assert said(predicted(peak=10_001), base) == [("peak_memory", "over-baseline", "error")]
    for measurement, baseline, reason in (
        (plain, other, "with allocator settings expandable_segments:True, and this is defaults"),
        (expandable, base, "with allocator settings defaults, and this is expandable_segments:True"),
    ):
        for strict, severity in ((False, "warn"), (True, "error")):
            terms = replace(TERMS, strict=strict)
            assert said(measurement, baseline, terms) == [("peak_memory", "baseline-environment", severity)]
        [found] = [each for each in hold(measurement, baseline, HERE, TERMS) if each.status != "met"]
        assert (found.status, found.reason) == ("undecided", f"it was predicted {reason}")
    both = [
        each.reason for each in hold(plain, other, HERE, replace(TERMS, torch="2.12.0")) if each.status == "undecided"
    ]
    assert both == [
        "it was predicted with torch 2.13, and this is 2.12; it was predicted with allocator settings "
        "expandable_segments:True, and this is defaults"
    ]
    taken = accept(base, expandable, replace(TERMS, accepts=frozenset({"changed"})), "segments that grow")
    assert taken is not None
    assert taken[1].memory["sim:h100"].allocator == "expandable_segments:True"


def test_tolerances_are_those_of_the_settings() -> None:
    loose = replace(TERMS, tolerance={"flops": "1%", "peak_memory": 5})
    # 6,000 + 1 % = 6,060 and 6,000 - 1 % = 5,940.
    assert said(seen(forward=2060), BASE, loose) == []
    assert said(seen(forward=2061), BASE, loose) == [("flops", "over-baseline", "error")]
    assert said(seen(forward=1940), BASE, loose) == []
    assert said(seen(forward=1939), BASE, loose) == [("flops", "under-baseline", "warn")]
    assert said(seen(peak=10_005), BASE, loose) == []
    assert said(seen(peak=10_006), BASE, loose) == [("peak_memory", "over-baseline", "error")]


def test_cuda_is_held_to_its_growth_with_two_percent() -> None:
    base = baseline_of(seen(device="cuda:sm90"), "2.13.0")
    peak = MemoryPeak(device="cuda:sm90", backend="cuda", start_bytes=5000, peak_bytes=14_180)
    # Growth was 9,000: 9,180 is 2 % more, whatever lay there before.
    assert said(seen(memory=(peak,)), base) == []
    more = replace(peak, peak_bytes=14_181)
    assert said(seen(memory=(more,)), base) == [("memory_growth", "over-baseline", "error")]


def test_two_devices_of_a_kind_are_held_each_to_its_own() -> None:
    first = MemoryPeak(device="cuda:sm90", backend="cuda", start_bytes=0, peak_bytes=9000)
    second = replace(first, index=1, peak_bytes=1000)
    base = baseline_of(seen(memory=(first, second)), "2.13.0")
    assert list(base.memory) == ["cuda:sm90", "cuda:sm90 #1"]
    assert said(seen(memory=(first, second)), base) == []
    grown = replace(second, peak_bytes=1021)
    assert said(seen(memory=(first, grown)), base) == [("memory_growth", "over-baseline", "error")]


@pytest.mark.parametrize(("improvement", "expected"), [("ignore", []), ("warn", ["warn"]), ("error", ["error"])])
def test_how_severe_a_win_is_can_be_set(improvement: Any, expected: list[str]) -> None:
    terms = replace(TERMS, improvement=improvement)
    assert [severity for _, _, severity in said(seen(forward=1), BASE, terms)] == expected


@pytest.mark.parametrize(
    ("today", "severity"), [(date(2026, 5, 31), "warn"), (date(2026, 6, 1), "warn"), (date(2026, 6, 2), "error")]
)
def test_a_muted_entry_warns_until_its_day_and_fails_after_it(today: date, severity: str) -> None:
    muted = replace(BASE, muted_until=date(2026, 6, 1), muted_reason="waits for #12")
    for measurement in (seen(forward=2001), seen(inputs="x"), seen(flops=None)):
        assert [each for _, _, each in said(measurement, muted, replace(TERMS, today=today))] == [severity]
    told = hold(seen(forward=2001), muted, HERE, replace(TERMS, today=today))[0].reason
    assert told == ("muted until 2026-06-01: waits for #12" if severity == "warn" else "it was muted until 2026-06-01")


def test_a_class_by_another_name_or_a_new_field_in_a_config_changes_no_workload() -> None:
    call = WorkloadCall(model="Other", inputs="float32[16, 8]", config={"layers": 2, "new_field": 7})
    assert said(seen(workload=Workload(calls=(call,)))) == []


def test_another_config_of_the_model_is_a_cause_and_not_another_workload() -> None:
    call = WorkloadCall(model="Net", inputs="float32[16, 8]", config={"layers": 3})
    assert said(seen(workload=Workload(calls=(call,)))) == []
    found, *_ = hold(seen(forward=2001, workload=Workload(calls=(call,))), BASE, HERE, TERMS)
    assert (found.code, found.observed) == ("over-baseline", sum(BASE.flops.values()) + 2001 - BASE.flops["forward"])


def test_another_way_to_count_attention_is_another_workload() -> None:
    tally = seen().flops
    assert tally is not None
    [found] = hold(seen(flops=replace(tally, attention="causal")), BASE, HERE, TERMS)
    assert (found.code, found.reason) == ("workload-changed", "attention: counted dense before, causal now")


@pytest.mark.parametrize(
    ("update", "measurement", "baseline"),
    [
        ("new", seen(), None),
        ("changed", seen(forward=2001), BASE),
        ("changed", seen(inputs="x"), BASE),
        ("trim", seen(forward=1999), BASE),
    ],
)
def test_a_run_that_accepts_it_is_not_failed_by_it(update: Any, measurement: Measurement, baseline: Baseline) -> None:
    for modes in ({"new"}, {"changed"}, {"trim"}):
        terms = replace(TERMS, accepts=frozenset(modes), strict=True, improvement="error")
        severities = [severity for _, _, severity in said(measurement, baseline, terms)]
        assert severities == ["warn" if update in modes else "error"]
        assert (accept(baseline, measurement, terms, "why") is not None) == (update in modes)


def test_an_accepted_change_keeps_what_was_and_why() -> None:
    terms = replace(TERMS, accepts=frozenset({"changed"}))
    muted = replace(BASE, muted_until=date(2026, 6, 1), muted_reason="x")
    found = accept(muted, seen(forward=2001, peak=9000), terms, "GQA is off, #812")
    assert found is not None
    kind, after = found
    assert kind == "changed"
    assert (after.reason, after.muted_until) == ("GQA is off, #812", None)
    assert after.was == {"flops": 6000, "forward_flops": 2000, "peak_memory cpu": 10_000}
    assert said(seen(forward=2001, peak=9000), after) == []


def test_memory_of_a_device_that_is_not_here_stays_unless_the_work_is_another() -> None:
    terms = replace(TERMS, accepts=frozenset({"changed"}))
    both = replace(BASE, memory={**BASE.memory, "cuda:sm90": BASE.memory["cpu"]})
    for measurement, devices in ((seen(forward=2001), ["cpu", "cuda:sm90"]), (seen(inputs="x"), ["cpu"])):
        found = accept(both, measurement, terms, "why")
        assert found is not None
        assert sorted(found[1].memory) == devices


def test_new_adds_a_device_and_alters_nothing() -> None:
    terms = replace(TERMS, accepts=frozenset({"new"}))
    found = accept(BASE, seen(device="cuda:sm90"), terms, "")
    assert found is not None
    kind, after = found
    assert kind == "new"
    assert list(after.memory) == ["cuda:sm90", "cpu"]
    assert replace(after, memory=BASE.memory) == BASE
    assert accept(BASE, seen(forward=2001, device="cuda:sm90"), terms, "") is None
    assert accept(BASE, seen(forward=1999), terms, "") is None


def test_trim_takes_flops_exactly_and_memory_with_head_room() -> None:
    terms = replace(TERMS, accepts=frozenset({"trim"}))
    cheaper = seen(forward=1000, peak=5000)
    found = accept(BASE, cheaper, terms, "")
    assert found is not None
    kind, after = found
    assert kind == "trimmed"
    # 5,000 + 1 % = 5,050: the same run is no win again, and 5,051 is over it.
    assert (after.total, after.memory["cpu"].peak) == (5000, 5050)
    assert said(cheaper, after) == []
    assert said(seen(forward=1000, peak=5051), after) == [("peak_memory", "over-baseline", "error")]
    assert accept(after, cheaper, terms, "") is None
    # A win that costs elsewhere is a change, and needs a reason.
    assert accept(BASE, seen(forward=1000, peak=10_001), terms, "") is None


def test_no_number_is_no_baseline() -> None:
    terms = replace(TERMS, accepts=frozenset({"new"}))
    assert accept(None, Measurement(), terms, "") is None
