"""The memory of a record as sheets: the peak of each device, what was alive then, and what a prediction stands on."""

from __future__ import annotations

from collections.abc import Iterator

from pytest_flopguard.core.baseline import MemoryBaseline, by_device, held_quantity, memory_amount
from pytest_flopguard.core.measurement import MemoryPeak
from pytest_flopguard.core.memory_delta import memory_delta, without_moves
from pytest_flopguard.core.record import Record
from pytest_flopguard.core.units import Unit
from pytest_flopguard.reporters.amounts import exact, least, percent, quantity_name
from pytest_flopguard.reporters.baseline_diff import signed_percent
from pytest_flopguard.reporters.memory_difference import moves
from pytest_flopguard.reporters.module_costs import OUTSIDE
from pytest_flopguard.reporters.owners_table import holdings
from pytest_flopguard.reporters.sheet import Sheet, left, right, sheet, signed


def memory_sheets(record: Record) -> Iterator[Sheet]:
    """Yield the sheets of each device's peak."""
    held = record.baseline.memory if record.baseline is not None else {}
    for device, peak in by_device(record.measurement.memory).items():
        yield _numbers(device, peak, held.get(device))
        if device in held:
            yield from _differences(device, peak, held[device])
        yield from _alive(device, peak, held.get(device))
        if peak.prediction is not None:
            yield _prediction(device, peak)


def _numbers(device: str, peak: MemoryPeak, accepted: MemoryBaseline | None) -> Sheet:
    rows = {"at the start": peak.start_bytes, "at the peak": peak.peak_bytes, "growth": peak.growth_bytes}
    bound = {"at the peak", "growth", "reserved peak bytes", "requested peak bytes"}
    rows |= {name.replace("_", " "): value for name, value in peak.detail.items()}
    kind = "predicted" if peak.prediction is not None else "measured"
    note = f"{kind.capitalize()} by {peak.backend}."
    if accepted is not None:
        quantity = held_quantity(device)
        before = memory_amount(accepted, device)
        now = peak.amount(growth=quantity == "memory_growth")
        change = f"{signed(now - before, Unit.BYTE)}, {signed_percent(now - before, before)}" if before else "new"
        note += f" The baseline's {quantity_name(quantity)} is {exact(before, Unit.BYTE)}: {change}."
    shown = ((name, (least(peak) if name in bound else "") + exact(value, Unit.BYTE)) for name, value in rows.items())
    return sheet(f"Memory on {device}", (*left("figure"), *right("bytes")), shown, note)


def _alive(device: str, peak: MemoryPeak, accepted: MemoryBaseline | None) -> Iterator[Sheet]:
    if peak.by_category:
        before = accepted.held if accepted is not None else {}
        names = sorted({*peak.by_category, *before}, key=lambda name: (-peak.by_category.get(name, 0), name))
        columns = (*left("category"), *right("bytes", "share"), *(right("more than the baseline") if before else ()))
        rows = []
        for name in names:
            size = peak.by_category.get(name, 0)
            more = (signed(size - before.get(name, 0), Unit.BYTE),) if before else ()
            rows.append((name.replace("_", " "), exact(size, Unit.BYTE), percent(size, peak.peak_bytes), *more))
        yield sheet(f"Alive at the peak on {device}, by category", columns, rows)
    if peak.owners:
        columns = (*right("bytes", "share"), *left("category", "module"), *right("blocks"), *left("made by"))
        shown = (
            (
                exact(each.bytes, Unit.BYTE),
                percent(each.bytes, peak.peak_bytes),
                each.category.replace("_", " "),
                each.path,
                f"{each.blocks:,}",
                each.made or "-",
            )
            for each in holdings(peak.owners, each_maker=True)
        )
        yield sheet(f"Alive at the peak on {device}, by module", columns, shown)


def _differences(device: str, peak: MemoryPeak, accepted: MemoryBaseline) -> Iterator[Sheet]:
    every = memory_delta(accepted, peak)
    delta = without_moves(every)
    if every:
        note = f"{moves(len(every) - len(delta))}." if len(delta) < len(every) else ""
        whole = memory_amount(accepted, device)
        columns = (*right("bytes more", "of the baseline"), *left("category", "module"), *right("before", "now"))
        rows = (
            (
                signed(each.bytes, Unit.BYTE),
                percent(abs(each.bytes), whole),
                each.category.replace("_", " "),
                each.path or OUTSIDE,
                exact(each.before, Unit.BYTE),
                exact(each.now, Unit.BYTE),
            )
            for each in delta
        )
        yield sheet(f"Against the baseline, memory on {device} by module", columns, rows, note)


def _prediction(device: str, peak: MemoryPeak) -> Sheet:
    found = peak.prediction
    rows: list[tuple[str, ...]] = []
    if found is not None:
        rows = [
            ("GPU", found.gpu),
            ("measured there as", found.device),
            ("torch", found.torch),
            ("allocator", found.allocator or "default settings"),
        ]
        rows += [("assumed", each) for each in found.assumed] + [("not known", each) for each in found.unknown]
    return sheet(f"What the prediction for {device} stands on", left("what", "value"), rows)
