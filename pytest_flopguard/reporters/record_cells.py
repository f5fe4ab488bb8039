"""The rows of a record in the table: its numbers, then its other devices and findings, as short texts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import zip_longest

from pytest_flopguard.core.measurement import PHASES, FlopTally, Phase, Precision
from pytest_flopguard.core.record import Record
from pytest_flopguard.core.standing import Standing
from pytest_flopguard.core.units import Unit
from pytest_flopguard.core.verdict import Finding
from pytest_flopguard.reporters.amounts import least, short
from pytest_flopguard.reporters.finding_text import budget_findings, limit_text, used_text, verdict
from pytest_flopguard.reporters.one_line import one_line

Cells = dict[str, str]
_SIGNS: Mapping[Precision, str] = {"": "", "at least": ">= ", "at most": "<= "}


def record_cells(record: Record, standing: Standing, *, every_finding: bool, one_device: bool) -> Iterator[Cells]:
    """Yield the rows of a record by column name; only the first one tells the test and its FLOPs.

    A memory peak names its device unless the whole run has ``one_device``.
    """
    findings = budget_findings(record)[: None if every_finding else 1]
    seen = record.measurement
    first: Cells = {"test": file_and_name(record)[1], "label": one_line(seen.label), "memory": "-"}
    first |= {phase: _flops(seen.flops, phase) for phase in PHASES}
    first |= {"limit": "-", "used": "-", "verdict": "no budget" if standing == "judged" else standing}
    # A record without a device and without a finding still has its one row.
    for index, (peak, finding) in enumerate(zip_longest(seen.memory or (None,), findings)):
        cells = first if index == 0 else dict.fromkeys(first, "")
        if peak is not None:
            device = "" if one_device else f" {peak.device}"
            cells["memory"] = f"{least(peak)}{short(peak.peak_bytes, Unit.BYTE)}{device}"
        if finding is not None:
            cells |= {
                "limit": limit_text(finding),
                "used": used_text(finding, seen),
                "verdict": _verdict(finding, record, standing),
            }
        yield cells


def without_unit(cells: Cells) -> Cells:
    """Return the cells with ``FLOP`` cut off, for columns whose header names it."""
    return {name: text.removesuffix("FLOP").rstrip() if name in PHASES else text for name, text in cells.items()}


def file_and_name(record: Record) -> tuple[str, str]:
    """Split a node id into its file and the test's name in it."""
    path, _, name = one_line(record.nodeid).partition("::")
    return (path, name) if name else ("", path)


def _verdict(finding: Finding, record: Record, standing: Standing) -> str:
    """Return pytest's word in place of a finding's where that is the verdict; of a part, nothing is kept."""
    if standing == "judged" or (standing == "xfailed" and record.complete and not finding.fails):
        return verdict(finding)
    return standing


def _flops(tally: FlopTally | None, phase: Phase) -> str:
    if tally is None:
        return "-"
    precision, known = tally.reading(phase)
    return _SIGNS[precision] + (short(known, Unit.FLOP) if known else "0")
