"""Everything that a record holds, as sheets in the order in which a reader wants them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pytest_flopguard.core.record import Record
from pytest_flopguard.core.workload import Size
from pytest_flopguard.reporters.flop_sheets import call_sheets, flop_sheets
from pytest_flopguard.reporters.memory_sheets import memory_sheets
from pytest_flopguard.reporters.sheet import Sheet, left, right, sheet
from pytest_flopguard.reporters.verdict_sheets import verdict_sheets


def record_sheets(record: Record) -> Iterator[Sheet]:
    """Yield verdicts, FLOPs, memory, and then what the numbers are of."""
    yield from verdict_sheets(record)
    yield from flop_sheets(record)
    yield from memory_sheets(record)
    seen = record.measurement
    if seen.parameters is not None:
        rows = [("parameters", f"{seen.parameters.count:,}"), ("bytes", f"{seen.parameters.bytes:,}")]
        yield sheet("Parameters", (*left("what"), *right("number")), rows)
    if seen.workload.calls:
        columns = left("model", "inputs", "config")
        calls = [(each.model, each.inputs, _config(each.config)) for each in seen.workload.calls]
        note = f"and {seen.workload.rest}" if seen.workload.rest else ""
        yield sheet("Workload", columns, calls, note)
    if seen.unavailable:
        yield sheet("Not measured", left("what", "why"), seen.unavailable.items())
    yield from call_sheets(record)


def _config(config: Mapping[str, Size]) -> str:
    return ", ".join(f"{name}={value}" for name, value in sorted(config.items()))
