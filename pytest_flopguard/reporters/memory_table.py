"""What ``flopguard memory`` has found, as text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from pytest_flopguard.core.measurement import MemoryPeak
from pytest_flopguard.core.units import Unit, format_amount
from pytest_flopguard.reporters.amounts import least, peak_text, percent
from pytest_flopguard.reporters.owners_table import owner_lines
from pytest_flopguard.reporters.predictions import ground_lines
from pytest_flopguard.reporters.table import Column, Row, lay_out

_COLUMNS = (Column(header="", right=False), Column(header="", right=False))


def render(
    title: str,
    peak: MemoryPeak,
    spans: Mapping[str, MemoryPeak | None],
    reserved: int,
    capacity: int,
    answers: Sequence[tuple[str, str]],
    *,
    verbosity: int,
) -> str:
    """Render a peak, those of the run's spans, whether ``reserved`` bytes fit, and what uses the memory at the peak."""
    parts = ((name, f"{peak_text(each)} at its peak") for name, each in spans.items() if each)
    rows = [Row(cells=each) for each in (*_figures(peak, reserved, capacity), *parts, *_categories(peak), *answers)]
    table = [line for line in lay_out(_COLUMNS, rows) if line.strip(" -─")]
    held = ["", "alive at the peak", *owner_lines(peak, verbosity=verbosity)]
    ground = [] if peak.prediction is None else ["", *ground_lines([peak.prediction], every=True)]
    return "\n".join([title, "", *table, *held, *ground])


def _figures(peak: MemoryPeak, reserved: int, capacity: int) -> Iterator[tuple[str, str]]:
    spare = capacity - reserved
    yield "peak allocated", peak_text(peak)
    yield "peak reserved", f"{least(peak)}{format_amount(reserved, Unit.BYTE)} of {format_amount(capacity, Unit.BYTE)}"
    if spare >= 0:
        yield "fits", f"yes, {format_amount(spare, Unit.BYTE)} to spare"
    else:
        yield "fits", f"{format_amount(-spare, Unit.BYTE)} more reserved than there is"


def _categories(peak: MemoryPeak) -> Iterator[tuple[str, str]]:
    for category, size in sorted(peak.by_category.items(), key=lambda pair: -pair[1]):
        if size:
            share = percent(size, peak.peak_bytes)
            yield category.replace("_", " "), f"{format_amount(size, Unit.BYTE)} at the peak ({share})"
