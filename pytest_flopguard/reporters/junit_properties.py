"""What a test measured as name and text, for the ``<properties>`` of a JUnit file and whatever else reads them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from pytest_flopguard.core.baseline import by_device
from pytest_flopguard.core.measurement import PHASES, FlopTally
from pytest_flopguard.core.record import Record
from pytest_flopguard.reporters.amounts import least

PREFIX = "flopguard"


def properties(records: Sequence[Record]) -> list[tuple[str, str]]:
    """Return the properties of one test, the whole of it as ``flopguard.flops``, a region as ``flopguard[step].flops``.

    Numbers are exact; where one is a bound, there is ``flops_at_least`` or ``flops_at_most`` in its place. A second
    region of a name is ``flopguard[step #2]``.
    """
    found: list[tuple[str, str]] = []
    seen: Counter[str] = Counter()
    for record in records:
        label = record.measurement.label
        seen[label] += 1
        number = f" #{seen[label]}" if seen[label] > 1 else ""
        prefix = f"{PREFIX}[{_printable(label)}{number}]" if label or number else PREFIX
        found += [(f"{prefix}.{name}", text) for name, text in _properties(record)]
    return found


def _properties(record: Record) -> Iterator[tuple[str, str]]:
    yield "outcome", record.outcome
    codes = dict.fromkeys(each.code for each in record.findings if each.status != "met")
    if codes:
        yield "codes", " ".join(codes)
    if not record.complete:
        yield "complete", "false"
    measured = record.measurement
    if measured.flops is not None:
        yield from _flops(measured.flops)
    for device, peak in by_device(measured.memory).items():
        yield f"peak_memory[{device}]", f"{least(peak)}{peak.peak_bytes}"
        yield f"memory_growth[{device}]", f"{least(peak)}{peak.growth_bytes}"
    if measured.parameters is not None:
        yield "parameters", str(measured.parameters.count)
        yield "parameter_bytes", str(measured.parameters.bytes)


def _flops(tally: FlopTally) -> Iterator[tuple[str, str]]:
    for name, phase in (("flops", None), *((f"{each}_flops", each) for each in PHASES)):
        precision, number = tally.reading(phase)
        yield "_".join([name, *precision.split()]), str(number)
    if tally.unknown_ops:
        yield "unknown_ops", " ".join(dict.fromkeys(each.op for each in tally.unknown_ops))


def _printable(label: str) -> str:
    """Return a label that any XML file can hold: a name there is not escaped as a value is."""
    return "".join(letter if letter.isprintable() else "?" for letter in label)
