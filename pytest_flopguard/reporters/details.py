"""Everything about one record, in exact numbers: what ``-vv`` adds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pytest_flopguard.core.measurement import PHASES, FlopTally, Kind, MemoryPeak
from pytest_flopguard.core.record import Record
from pytest_flopguard.core.traffic import ByteTally
from pytest_flopguard.core.units import Unit
from pytest_flopguard.reporters.amounts import exact, percent
from pytest_flopguard.reporters.finding_text import sentence, tightest_first, verdict
from pytest_flopguard.reporters.module_costs import OUTSIDE, module_costs
from pytest_flopguard.reporters.owners_table import all_lines

_LISTED: tuple[Kind, ...] = ("unknown", "uncounted", "free")


def details(record: Record) -> Iterator[str]:
    """Yield the lines that tell a record in full: FLOPs by module and op, memory by category, findings."""
    seen = record.measurement
    yield f"{record.nodeid}  {seen.label}".rstrip()
    if seen.flops is not None:
        yield from _tally(seen.flops)
    for other in seen.other_tallies:
        yield f"  FLOPs for comparison (engine {other.engine})"
        yield from _totals(other)
    for peak in seen.memory:
        yield from memory(peak)
    if seen.parameters is not None:
        yield "  parameters"
        yield from _rows({"count": seen.parameters.count, "bytes": seen.parameters.bytes})
    for name, reason in seen.unavailable.items():
        yield f"  not measured: {name}, {reason}"
    if record.findings:
        yield "  findings"
    for each in tightest_first(record):
        wanted = each.expectation
        ends = [
            f"{name} {exact(value, wanted.unit)}"
            for name, value in (("observed", each.observed), ("low", wanted.low), ("high", wanted.high))
            if value is not None
        ]
        yield f"    {verdict(each)}: {sentence(each, seen)}"
        yield f"      {', '.join(ends) or 'no number'}; {wanted.origin} {wanted.origin.text}".rstrip()


def memory(peak: MemoryPeak) -> Iterator[str]:
    """Yield what a device held at its peak: by category and owner, and the backend's other figures."""
    yield f"  memory on {peak.device} (device {peak.index}, backend {peak.backend})"
    bound = " >=" if peak.is_lower_bound else ""
    figures = {"start": peak.start_bytes, f"peak{bound}": peak.peak_bytes, f"growth{bound}": peak.growth_bytes}
    yield from _rows(figures)
    if peak.by_category:
        yield f"  at the peak on {peak.device}"
        yield from _shares(peak.by_category, peak.peak_bytes, Unit.BYTE)
    if peak.owners:
        yield f"  where it was held on {peak.device}"
        yield from all_lines(peak)
    if peak.detail:
        yield f"  other figures of {peak.backend}"
        yield from _rows(peak.detail)


def _tally(tally: FlopTally) -> Iterator[str]:
    causal = ", causal attention" if tally.attention == "causal" else ""
    yield f"  FLOPs (engine {tally.engine}{causal})"
    yield from _totals(tally)
    yield "  by module"
    yield from _shares({name or OUTSIDE: n for name, n in module_costs(tally).items()}, tally.known, Unit.FLOP)
    yield "  by op"
    yield from _shares(tally.by_op(), tally.known, Unit.FLOP)
    if tally.bytes_moved is not None:
        yield from _bytes(tally, tally.bytes_moved)
    for kind in _LISTED:
        calls = tally.calls_of(kind)
        if calls:
            yield f"  calls of {kind} ops"
            yield from _rows(calls)


def _bytes(tally: FlopTally, moved: ByteTally) -> Iterator[str]:
    least = "at least " if moved.unknown else ""
    yield f"  bytes moved: {least}{exact(moved.at_least, Unit.BYTE)}"
    flops, rows = module_costs(tally), moved.by_module()
    width = max((len(exact(value, Unit.BYTE)) for value in rows.values()), default=0)
    for name, value in rows.items():
        intensity = f"{flops.get(name, 0) / value:.1f} FLOP/B"
        yield f"    {exact(value, Unit.BYTE):>{width}}  {intensity:>14}  {name or OUTSIDE}"
    if moved.unknown:
        yield f"    not known for {', '.join(moved.unknown)}"


def _totals(tally: FlopTally) -> Iterator[str]:
    rows: dict[str, int] = {}
    for name, phase in (("total", None), *((each, each) for each in PHASES)):
        precision, number = tally.reading(phase)
        rows[f"{name}, {precision}" if precision else name] = number
    if tally.attention == "causal" and tally.dense_total is not None:
        rows["total with dense attention"] = tally.dense_total
    if tally.kernel_recompute:
        rows["kernel recompute, in no total"] = tally.kernel_recompute
    yield from _rows(rows)
    for op, reason in dict.fromkeys((each.op, each.at_most) for each in tally.upper_bounds):
        yield f"    {op} is an upper bound: {reason}"


def _rows(rows: Mapping[str, int]) -> Iterator[str]:
    width = max((len(f"{value:,}") for value in rows.values()), default=0)
    for name, value in rows.items():
        yield f"    {value:>{width},}  {name}"


def _shares(rows: Mapping[str, int], whole: int, unit: Unit) -> Iterator[str]:
    width = max((len(exact(value, unit)) for value in rows.values()), default=0)
    for name, value in rows.items():
        yield f"    {exact(value, unit):>{width}}  {percent(value, whole):>7}  {name}"
