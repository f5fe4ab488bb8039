"""The report file: written the same every time, read back without loss, refused when it is not ours."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pytest_flopguard.core.errors import UsageError
from pytest_flopguard.core.measurement import Measurement, MemoryPeak
from pytest_flopguard.core.owners import Prediction
from pytest_flopguard.core.record import Record, RunReport
from pytest_flopguard.reporters.json_file import load, render

Golden = Callable[[str, str], None]


def reason(path: Path) -> str:
    with pytest.raises(UsageError) as raised:
        load(path)
    assert [(each.code, each.where) for each in raised.value.problems] == [("bad-report", str(path))]
    return str(raised.value).removeprefix(f"{path}: not a flopguard report: ").removesuffix(" [bad-report]")


def by_nodeid(run: RunReport) -> RunReport:
    return replace(run, records=tuple(sorted(run.records, key=lambda each: each.nodeid)))


@pytest.fixture
def saved(usual_run: RunReport, tmp_path: Path) -> Path:
    path = tmp_path / "report.json"
    path.write_text(render(usual_run), encoding="utf-8")
    return path


@pytest.fixture
def spoil(saved: Path) -> Callable[[Callable[[Any], None]], Path]:
    """Change the saved data through a function."""

    def change(how: Callable[[Any], None]) -> Path:
        data = json.loads(saved.read_text(encoding="utf-8"))
        how(data)
        saved.write_text(json.dumps(data), encoding="utf-8")
        return saved

    return change


def test_the_file_stays_as_it_is(build: SimpleNamespace, golden: Golden) -> None:
    small = build.run_of(build.fused_unknown())
    golden("report.json", render(small).removesuffix("\n"))


def test_nothing_is_lost(usual_run: RunReport, gpu_run: RunReport, tmp_path: Path) -> None:
    for run in (usual_run, replace(gpu_run, notes=("ün note", ""))):
        path = tmp_path / "report.json"
        path.write_text(render(run), encoding="utf-8")
        assert load(path) == by_nodeid(run)
        assert render(load(path)) == path.read_text(encoding="utf-8")


def test_numbers_past_64_bits_stay_exact(build: SimpleNamespace, tmp_path: Path) -> None:
    flops = 2**64 + 3  # a float would make it 2**64
    record = build.record("t.py::t", Measurement(flops=build.tally([build.counted("aten.mm", "a", flops)])))
    path = tmp_path / "report.json"
    path.write_text(render(build.run_of(record)), encoding="utf-8")
    assert '"total":18446744073709551619,' in path.read_text(encoding="utf-8")
    assert load(path).records[0].measurement.flops.total == flops


def test_parallel_runs_write_the_same_file(usual_run: RunReport) -> None:
    backwards = replace(usual_run, records=usual_run.records[::-1])
    assert render(backwards) == render(usual_run)


def test_regions_of_one_test_keep_their_order(build: SimpleNamespace) -> None:
    regions = [build.record("t.py::t", Measurement(label=label)) for label in ("warm-up", "forward", "backward")]
    labels = [each["label"] for each in json.loads(render(build.run_of(*regions)))["records"]]
    assert labels == ["warm-up", "forward", "backward"]


def test_a_file_cut_short_is_refused_wherever_it_ends(saved: Path) -> None:
    text = saved.read_text(encoding="utf-8").rstrip("\n")
    for end in range(0, len(text), 997):
        saved.write_text(text[:end], encoding="utf-8")
        assert reason(saved).startswith("not valid JSON, ")


def test_what_is_no_report_is_refused(tmp_path: Path) -> None:
    assert reason(tmp_path / "gone.json") == "No such file or directory"
    assert reason(tmp_path) == "Is a directory"
    path = tmp_path / "a.json"
    for text, told in [
        ("", "not valid JSON, Expecting value: line 1 column 1 (char 0)"),
        ("[]", "it has no format_version"),
        ("null", "it has no format_version"),
        ('{"tests": 3}', "it has no format_version"),
        ('{"format_version": "1"}', "it has no format_version"),
        ('{"format_version": true}', "it has no format_version"),
        ('{"format_version": 1}', "the report lacks environment, notes, records, tool"),
        ("[" * 200_000, "it is nested too deeply"),
    ]:
        path.write_text(text, encoding="utf-8")
        assert reason(path) == told
    path.write_bytes(b"\xff\xfe{")
    assert "utf-8" in reason(path)


def test_a_newer_format_is_told_by_its_number(spoil: Callable[..., Path]) -> None:
    def newer(data: Any) -> None:
        data["format_version"] = 2
        data["records"] = "anything"

    assert reason(spoil(newer)) == "a newer flopguard wrote it: format_version 2, and this one reads 1"


def test_an_older_format_is_told_by_its_number(spoil: Callable[..., Path]) -> None:
    path = spoil(lambda data: data.update(format_version=0))
    assert reason(path) == "another flopguard wrote it: format_version 0, and this one reads 1"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda r: r.pop("nodeid"), "the report.records[0] lacks nodeid"),
        (lambda r: r.update(extra=1), "the report.records[0] holds extra, which this version does not know"),
        (lambda r: r.update(outcome="great"), "the report.records[0].outcome is 'great', expected one of failed, "),
        (
            lambda r: r["flops"]["counts"][0].update(flops=1.5e12),
            ".flops.counts[0].flops is 1500000000000.0, expected int",
        ),
        (lambda r: r["flops"]["counts"][0].update(calls=True), ".flops.counts[0].calls is True, expected int"),
        (lambda r: r["flops"]["counts"][0].update(calls="3"), ".flops.counts[0].calls is '3', expected int"),
        (lambda r: r["flops"]["counts"][0].update(kind="odd"), ".counts[0].kind is 'odd', expected one of counted, "),
        (lambda r: r["findings"][0].update(observed="12"), ".findings[0].observed is '12', expected int"),
        (lambda r: r["findings"][0].update(quantity="flop"), ".findings[0].quantity is 'flop', expected one of "),
        (lambda r: r["findings"][0].update(quantity=[]), ".findings[0].quantity is [], expected one of "),
        (lambda r: r.update(findings={}), ".findings is {}, expected list"),
        (lambda r: r.update(flops=[]), ".flops is [], expected a table"),
        (lambda r: r["flops"]["by_op"].update(x=0.5), ".flops.by_op['x'] is 0.5, expected int"),
        (lambda r: r.update(label="x" * 50) or r.update(nodeid=["x" * 50]), ".nodeid is ['xxxx"),
    ],
)
def test_a_wrong_part_is_told_by_its_place(spoil: Callable[..., Path], change: Any, told: str) -> None:
    assert told in reason(spoil(lambda data: change(data["records"][0])))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda r: r["flops"].update(total=1), "flops should follow"),
        (lambda r: r["flops"]["counts"][0].update(flops=1), "flops should follow"),
        (lambda r: r.update(outcome="passed"), "outcome should follow"),
        (lambda r: r.update(other_memory=[r["memory"]], memory=None), "other_memory should follow"),
    ],
)
def test_a_file_that_contradicts_itself_is_refused(spoil: Callable[..., Path], change: Any, told: str) -> None:
    def failing(data: Any) -> None:
        change(next(each for each in data["records"] if each["outcome"] == "failed" and each["memory"]))

    assert told in reason(spoil(failing))


def test_a_report_of_an_earlier_release_is_read(usual_run: RunReport, gpu_run: RunReport, tmp_path: Path) -> None:
    """What later releases added is absent from it, and has the value that its absence meant."""
    prediction = Prediction(gpu="h100", device="cuda:sm90", torch="2.13.0", allocator="defaults", unknown=("graphs",))
    peak = MemoryPeak(device="sim:h100", backend="simulated", start_bytes=0, peak_bytes=1, prediction=prediction)
    predicted = Record(nodeid="test_z.py::test_z", measurement=Measurement(memory=(peak,)))
    run = by_nodeid(replace(gpu_run, records=(*usual_run.records, predicted)))
    data = json.loads(render(run))
    removed = dict.fromkeys(("at_most", "at_most_bytes", "is_lower_bound", "derive", "predict"), 0)

    def strip(value: Any) -> None:
        for each in list(value) if isinstance(value, dict) else []:
            if each in removed:
                del value[each]
                removed[each] += 1
        for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            strip(inner)

    strip(data)
    assert all(removed.values()), removed
    path = tmp_path / "report.json"
    path.write_text(json.dumps(data), encoding="utf-8")
    assert load(path) == run
