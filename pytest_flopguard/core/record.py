"""One measured region of one test with its findings, and the whole run; as plain JSON and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pytest_flopguard.core.baseline import Baseline
from pytest_flopguard.core.baseline_plain import (
    baseline_from_plain,
    baseline_to_plain,
    workload_from_plain,
    workload_to_plain,
)
from pytest_flopguard.core.expectation import Expectation, Origin, Part
from pytest_flopguard.core.measurement import (
    FlopTally,
    Measurement,
    MemoryPeak,
    OpCount,
    ParameterCount,
    UnknownOp,
)
from pytest_flopguard.core.owners import Owner, Prediction
from pytest_flopguard.core.traffic import ByteCount, ByteTally
from pytest_flopguard.core.verdict import Finding

FORMAT_VERSION = 1
Outcome = Literal["passed", "failed", "warned", "undecided"]
TestOutcome = Literal["passed", "failed", "skipped", "xfailed", "xpassed"]
Json = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What one region of one test measured and what came of it. Without findings it passes: no budget, no verdict.

    ``baseline`` is what was accepted for it, None where nothing was. ``complete`` is false where the test itself
    failed or was skipped on the way, so that the numbers are those of a part. ``test`` is what pytest made of
    the test's call, broken budgets and marks included.
    """

    nodeid: str
    measurement: Measurement
    findings: tuple[Finding, ...] = ()
    baseline: Baseline | None = None
    complete: bool = True
    test: TestOutcome = "passed"

    @property
    def outcome(self) -> Outcome:
        """The worst of the findings."""
        if any(each.fails for each in self.findings):
            return "failed"
        if any(each.status == "undecided" for each in self.findings):
            return "undecided"
        if any(each.status == "broken" for each in self.findings):
            return "warned"
        return "passed"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReport:
    """Everything that reporters may show of one run, whichever process measured it."""

    tool: Mapping[str, Any]
    environment: Mapping[str, Any]
    records: tuple[Record, ...] = ()
    notes: tuple[str, ...] = field(default=())


def run_to_json(run: RunReport) -> Json:
    """Return the report as plain JSON (format_version 1); all numbers are exact integers."""
    return {
        "format_version": FORMAT_VERSION,
        "tool": dict(run.tool),
        "environment": dict(run.environment),
        "records": [record_to_json(each) for each in run.records],
        "notes": list(run.notes),
    }


def run_from_json(data: Json) -> RunReport:
    """Rebuild the report that ``run_to_json`` wrote; KeyError or TypeError if the shape is another."""
    return RunReport(
        tool=data["tool"],
        environment=data["environment"],
        records=tuple(record_from_json(each) for each in data["records"]),
        notes=tuple(data.get("notes", ())),
    )


def record_to_json(record: Record) -> Json:
    """Return one record as plain JSON: what travels on the test report, and what the report file holds."""
    seen = record.measurement
    return {
        "nodeid": record.nodeid,
        "label": seen.label,
        "outcome": record.outcome,
        "flops": None if seen.flops is None else _tally_to_json(seen.flops),
        "memory": _peak_to_json(seen.memory[0]) if seen.memory else None,
        "other_memory": [_peak_to_json(each) for each in seen.memory[1:]],
        "parameters": None
        if seen.parameters is None
        else {"count": seen.parameters.count, "bytes": seen.parameters.bytes},
        "cross_checks": [_tally_to_json(each) for each in seen.other_tallies],
        "workload": workload_to_plain(seen.workload),
        "unavailable": dict(seen.unavailable),
        "complete": record.complete,
        "test": record.test,
        "baseline": None if record.baseline is None else baseline_to_plain(record.baseline),
        "findings": [_finding_to_json(each) for each in record.findings],
    }


def record_from_json(data: Json) -> Record:
    """Rebuild the record that ``record_to_json`` wrote."""
    memory = [data["memory"], *data["other_memory"]] if data["memory"] else []
    measurement = Measurement(
        label=data["label"],
        flops=None if data["flops"] is None else _tally_from_json(data["flops"]),
        memory=tuple(_peak_from_json(each) for each in memory),
        parameters=None if data["parameters"] is None else ParameterCount(**data["parameters"]),
        other_tallies=tuple(_tally_from_json(each) for each in data["cross_checks"]),
        workload=workload_from_plain(data["workload"]),
        unavailable=data["unavailable"],
    )
    return Record(
        nodeid=data["nodeid"],
        measurement=measurement,
        findings=tuple(_finding_from_json(each) for each in data["findings"]),
        baseline=None if data["baseline"] is None else baseline_from_plain(data["baseline"]),
        complete=data["complete"],
        test=data["test"],
    )


_OP_COUNT = ("op", "module", "phase", "kind", "calls", "flops", "kernel_recompute", "masked_flops", "at_most")
_BYTE_COUNT = ("module", "phase", "read", "written")
_PART = ("name", "equation", "flops", "modules")
_OWNER = ("category", "module", "op", "site", "bytes", "blocks")
_UNKNOWN_OP = ("op", "call", "module", "phase", "calls", "reason", "dense_flops")


def _tally_to_json(tally: FlopTally) -> Json:
    return {
        "attention": tally.attention,
        "total": tally.total,
        "dense_total": tally.dense_total,
        "at_least": tally.at_least,
        "forward": tally.forward,
        "backward": tally.backward,
        "recompute": tally.recompute,
        "optimizer": tally.optimizer,
        "kernel_recompute": tally.kernel_recompute,
        "unknown_ops": [{name: getattr(each, name) for name in _UNKNOWN_OP} for each in tally.unknown_ops],
        "by_module": tally.by_module(),
        "by_op": tally.by_op(),
        "engine": tally.engine,
        "bytes_moved": None if tally.bytes_moved is None else _bytes_to_json(tally.bytes_moved),
        "counts": [{name: getattr(each, name) for name in _OP_COUNT} for each in tally.counts],
    }


def _tally_from_json(data: Json) -> FlopTally:
    return FlopTally(
        engine=data["engine"],
        attention=data["attention"],
        bytes_moved=None if data["bytes_moved"] is None else _bytes_from_json(data["bytes_moved"]),
        counts=tuple(OpCount(**each) for each in data["counts"]),
        unknown_ops=tuple(UnknownOp(**each) for each in data["unknown_ops"]),
    )


def _bytes_to_json(tally: ByteTally) -> Json:
    return {
        "total": tally.total,
        "at_least": tally.at_least,
        "by_module": tally.by_module(),
        "unknown": list(tally.unknown),
        "counts": [{name: getattr(each, name) for name in _BYTE_COUNT} for each in tally.counts],
    }


def _bytes_from_json(data: Json) -> ByteTally:
    return ByteTally(
        counts=tuple(ByteCount(**each) for each in data["counts"]),
        unknown=tuple(data["unknown"]),
    )


def _peak_to_json(peak: MemoryPeak) -> Json:
    return {
        "device": peak.device,
        "index": peak.index,
        "backend": peak.backend,
        "start_bytes": peak.start_bytes,
        "peak_bytes": peak.peak_bytes,
        "growth_bytes": peak.growth_bytes,
        "is_lower_bound": peak.is_lower_bound,
        "by_category": dict(peak.by_category),
        "detail": dict(peak.detail),
        "owners": [{name: getattr(each, name) for name in _OWNER} for each in peak.owners],
        "timeline": [list(each) for each in peak.timeline],
        "prediction": None if peak.prediction is None else _prediction_to_json(peak.prediction),
        "peak_phase": peak.phase,
    }


_DERIVED_OR_NESTED = ("growth_bytes", "is_lower_bound", "owners", "timeline", "peak_phase")


def _peak_from_json(data: Json) -> MemoryPeak:
    prediction = data["prediction"]
    own = {name: value for name, value in data.items() if name not in _DERIVED_OR_NESTED}
    return MemoryPeak(
        **own
        | {
            "owners": tuple(Owner(**each) for each in data["owners"]),
            "timeline": tuple((tick, size) for tick, size in data["timeline"]),
            "prediction": None if prediction is None else _prediction_from_json(prediction),
            "phase": data["peak_phase"],
        }
    )


def _prediction_to_json(prediction: Prediction) -> Json:
    return {
        "gpu": prediction.gpu,
        "device": prediction.device,
        "torch": prediction.torch,
        "allocator": prediction.allocator,
        "assumed": list(prediction.assumed),
        "unknown": list(prediction.unknown),
        "at_most_bytes": prediction.at_most,
    }


def _prediction_from_json(data: Json) -> Prediction:
    own = {name: data[name] for name in ("gpu", "device", "torch", "allocator")}
    assumed, unknown = tuple(data["assumed"]), tuple(data["unknown"])
    return Prediction(**own, assumed=assumed, unknown=unknown, at_most=data["at_most_bytes"])


def _finding_to_json(finding: Finding) -> Json:
    wanted = finding.expectation
    return {
        "quantity": wanted.quantity,
        "observed": finding.observed,
        "low": wanted.low,
        "high": wanted.high,
        "origin": {"path": wanted.origin.path, "line": wanted.origin.line, "text": wanted.origin.text},
        "status": finding.status,
        "code": finding.code,
        "severity": wanted.severity,
        "source": wanted.source,
        "parts": [{name: getattr(each, name) for name in _PART} for each in wanted.parts],
        "derive": wanted.derive,
        "predict": wanted.predict,
        "convention": wanted.attention,
        "limit_device": wanted.device,
        "device": finding.device,
        "reason": finding.reason,
    }


def _finding_from_json(data: Json) -> Finding:
    expectation = Expectation(
        quantity=data["quantity"],
        low=data["low"],
        high=data["high"],
        origin=Origin(**data["origin"]),
        severity=data["severity"],
        device=data["limit_device"],
        source=data["source"],
        parts=tuple(Part(**each) for each in data["parts"]),
        derive=data["derive"],
        predict=data["predict"],
        attention=data["convention"],
    )
    return Finding(
        expectation=expectation,
        observed=data["observed"],
        status=data["status"],
        code=data["code"],
        device=data["device"],
        reason=data["reason"],
    )
