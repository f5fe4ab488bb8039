"""Records go to JSON and back without loss, whatever they hold."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_flopguard.core.expectation import SEVERITIES, UNITS, Expectation, Origin, Part, Source
from pytest_flopguard.core.measurement import (
    PHASES,
    FlopTally,
    Measurement,
    MemoryPeak,
    OpCount,
    ParameterCount,
    UnknownOp,
)
from pytest_flopguard.core.owners import Owner, Prediction
from pytest_flopguard.core.record import (
    FORMAT_VERSION,
    Record,
    RunReport,
    record_from_json,
    record_to_json,
    run_from_json,
    run_to_json,
)
from pytest_flopguard.core.record_shape import REPORT, check_shape
from pytest_flopguard.core.verdict import Finding, Status, judge

# Past 64 bits on purpose: a year of training on a large cluster passes 2**64 FLOPs.
AMOUNTS = st.integers(min_value=0, max_value=2**100)
MAYBE = st.none() | AMOUNTS
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
PHASE = st.sampled_from(PHASES)
BY_NAME = st.dictionaries(TEXTS, AMOUNTS, max_size=3)

COUNTED = st.builds(
    OpCount,
    op=TEXTS,
    module=TEXTS,
    phase=PHASE,
    kind=st.just("counted"),
    calls=AMOUNTS,
    flops=AMOUNTS,
    kernel_recompute=AMOUNTS,
)
LEFT_OUT = st.builds(
    OpCount,
    op=TEXTS,
    module=st.just(""),
    phase=st.just("forward"),
    kind=st.sampled_from(["free", "uncounted"]),
    calls=AMOUNTS,
    flops=st.just(0),
)
UNKNOWN = st.builds(UnknownOp, op=TEXTS, call=TEXTS, module=TEXTS, phase=PHASE, calls=AMOUNTS, reason=TEXTS)
TALLIES = st.builds(
    FlopTally,
    counts=st.lists(COUNTED | LEFT_OUT, max_size=4).map(tuple),
    engine=TEXTS,
    unknown_ops=st.lists(UNKNOWN, max_size=2).map(tuple),
)
OWNERS = st.builds(Owner, category=TEXTS, module=TEXTS, op=TEXTS, site=TEXTS, bytes=AMOUNTS, blocks=AMOUNTS)
SOME_TEXTS = st.lists(TEXTS, max_size=2).map(tuple)
PREDICTIONS = st.builds(Prediction, gpu=TEXTS, torch=TEXTS, allocator=TEXTS, assumed=SOME_TEXTS, unknown=SOME_TEXTS)
PEAKS = st.builds(
    MemoryPeak,
    device=TEXTS,
    backend=TEXTS,
    start_bytes=AMOUNTS,
    peak_bytes=AMOUNTS,
    index=AMOUNTS,
    by_category=BY_NAME,
    detail=BY_NAME,
    owners=st.lists(OWNERS, max_size=2).map(tuple),
    timeline=st.lists(st.tuples(AMOUNTS, AMOUNTS), max_size=3).map(tuple),
    prediction=st.none() | PREDICTIONS,
)
ORIGINS = st.builds(Origin, path=TEXTS, line=MAYBE, text=TEXTS)
EXPECTATIONS = st.builds(
    Expectation,
    quantity=st.sampled_from(list(UNITS)),
    low=MAYBE,
    high=MAYBE,
    origin=ORIGINS,
    severity=st.sampled_from(SEVERITIES),
    device=st.none() | TEXTS,
    source=st.sampled_from(get_args(Source)),
)
FINDINGS = st.builds(
    Finding,
    expectation=EXPECTATIONS,
    observed=MAYBE,
    status=st.sampled_from(get_args(Status)),
    code=TEXTS,
    device=st.none() | TEXTS,
    reason=TEXTS,
)
MEASUREMENTS = st.builds(
    Measurement,
    label=TEXTS,
    flops=st.none() | TALLIES,
    memory=st.lists(PEAKS, max_size=3).map(tuple),
    parameters=st.none() | st.builds(ParameterCount, count=AMOUNTS, bytes=AMOUNTS),
    other_tallies=st.lists(TALLIES, max_size=2).map(tuple),
    unavailable=st.dictionaries(TEXTS, TEXTS, max_size=2),
)
RECORDS = st.builds(Record, nodeid=TEXTS, measurement=MEASUREMENTS, findings=st.lists(FINDINGS, max_size=3).map(tuple))
PLAIN = st.none() | st.booleans() | st.integers() | TEXTS
RUNS = st.builds(
    RunReport,
    tool=st.dictionaries(TEXTS, PLAIN, max_size=2),
    environment=st.dictionaries(TEXTS, PLAIN, max_size=2),
    records=st.lists(RECORDS, max_size=2).map(tuple),
    notes=st.lists(TEXTS, max_size=2).map(tuple),
)


@given(RECORDS)
def test_a_record_comes_back_as_it_went(record: Record) -> None:
    assert record_from_json(record_to_json(record)) == record


@given(RECORDS)
def test_a_record_survives_text(record: Record) -> None:
    # What pytest-xdist and the report file do with it.
    assert record_from_json(json.loads(json.dumps(record_to_json(record)))) == record


@given(RUNS)
def test_a_run_comes_back_as_it_went_and_has_the_documented_shape(run: RunReport) -> None:
    data = json.loads(json.dumps(run_to_json(run)))
    check_shape(data, REPORT)
    assert run_from_json(data) == run


def counted(flops: int, phase: str = "forward", module: str = "") -> OpCount:
    return OpCount(op="aten.mm", module=module, phase=phase, kind="counted", calls=1, flops=flops)


def test_the_report_holds_what_the_format_promises() -> None:
    tally = FlopTally(
        engine="dispatch", counts=(counted(2**64 + 1, module="a"), counted(6, "backward", "a"), counted(7, module="b"))
    )
    peak = MemoryPeak(device="cpu", backend="storages", start_bytes=10, peak_bytes=25)
    seen = Measurement(label="step", flops=tally, memory=(peak,), parameters=ParameterCount(count=3, bytes=12))
    limit = Expectation(quantity="flops", high=2**64, origin=Origin(path="t.py", line=4, text='flops="..."'))
    run = RunReport(
        tool={"name": "pytest-flopguard"},
        environment={},
        records=(Record(nodeid="t.py::t", measurement=seen, findings=judge(seen, [limit])),),
    )
    data = run_to_json(run)
    assert data["format_version"] == FORMAT_VERSION == 1
    record = data["records"][0]
    # 2**64 + 1 + 6 + 7 = 18446744073709551630.
    assert record["flops"]["total"] == 18446744073709551630
    assert record["flops"]["forward"] == 18446744073709551624
    assert record["flops"]["backward"] == 6
    assert record["flops"]["by_module"] == {"a": 18446744073709551623, "b": 7}
    assert record["memory"]["growth_bytes"] == 15
    assert record["parameters"] == {"count": 3, "bytes": 12}
    assert record["outcome"] == "failed"
    assert record["findings"][0]["observed"] == 18446744073709551630
    assert record["findings"][0]["high"] == 18446744073709551616
    assert record["findings"][0]["code"] == "over-budget"


@pytest.mark.parametrize(
    ("findings", "outcome"),
    [
        ([], "passed"),
        ([("met", "error", "within-budget")], "passed"),
        ([("broken", "warn", "over-budget"), ("met", "error", "within-budget")], "warned"),
        ([("broken", "warn", "over-budget"), ("undecided", "warn", "unknown-op")], "undecided"),
        ([("undecided", "error", "device-absent")], "undecided"),
        ([("undecided", "error", "unknown-op")], "failed"),
        ([("undecided", "warn", "unknown-op"), ("broken", "error", "over-budget")], "failed"),
    ],
)
def test_the_outcome_is_the_worst_finding(findings: list[tuple[str, str, str]], outcome: str) -> None:
    made = tuple(
        Finding(
            expectation=Expectation(quantity="flops", high=1, origin=Origin(path="t.py"), severity=severity),
            observed=None,
            status=status,
            code=code,
        )
        for status, severity, code in findings
    )
    assert Record(nodeid="t", measurement=Measurement(), findings=made).outcome == outcome


@pytest.mark.parametrize("part", ["tool", "environment", "records"])
def test_another_shape_is_an_error_not_a_default(part: str) -> None:
    data = run_to_json(RunReport(tool={}, environment={}))
    del data[part]
    with pytest.raises(KeyError, match=part):
        run_from_json(data)


def test_a_finding_keeps_every_field_of_its_expectation() -> None:
    # One value for each field, none of them its default: a field that JSON loses comes back as its default.
    wanted = Expectation(
        quantity="peak_memory",
        low=1,
        high=2,
        origin=Origin(path="t.py", line=3, text="x"),
        severity="warn",
        device="cuda",
        source="formula",
        parts=(Part(name="p", equation="e", flops=4, modules="m"),),
        derive="auto",
        predict=True,
        attention="causal",
    )
    defaults = {each.name: each.default for each in fields(Expectation)}
    assert all(getattr(wanted, name) != default for name, default in defaults.items())
    finding = Finding(
        expectation=wanted, observed=5, status="broken", code="over-budget", device="cuda:sm90", reason="because"
    )
    assert all(getattr(finding, each.name) != each.default for each in fields(Finding))
    record = Record(nodeid="t.py::t", measurement=Measurement(), findings=(finding,), complete=False, test="failed")
    assert record_from_json(json.loads(json.dumps(record_to_json(record)))) == record
