"""The FLOPs of a record as sheets: by phase, module and op, and what is not known of them."""

from __future__ import annotations

from collections.abc import Iterator

from pytest_flopguard.core.baseline import Baseline
from pytest_flopguard.core.measurement import PHASES, FlopTally, Kind, Precision
from pytest_flopguard.core.record import Record
from pytest_flopguard.core.traffic import ByteTally
from pytest_flopguard.core.units import Unit
from pytest_flopguard.reporters.amounts import exact, percent
from pytest_flopguard.reporters.baseline_diff import signed_percent
from pytest_flopguard.reporters.module_costs import OUTSIDE, folded, module_costs
from pytest_flopguard.reporters.sheet import Sheet, left, right, share_rows, sheet, signed

_SHARES = (*left("op"), *right("FLOPs", "share"))
_KINDS: tuple[tuple[Kind, str], ...] = (
    ("uncounted", "Calls of ops that the convention leaves uncounted"),
    ("free", "Calls of ops that move or rename data only"),
)


def flop_sheets(record: Record) -> Iterator[Sheet]:
    """Yield the sheets of the FLOPs, ops without a formula first."""
    tally = record.measurement.flops
    if tally is None:
        return
    if tally.unknown_ops:
        columns = (*left("op"), *right("calls"), *left("call", "module", "why"))
        note = "A limit that such an op leaves open is undecided, and undecided never passes."
        unknown = (
            (each.op, f"{each.calls:,}", each.call, each.module or OUTSIDE, each.reason) for each in tally.unknown_ops
        )
        yield sheet("Ops without a formula", columns, unknown, note)
    yield _phases(tally, record.baseline)
    costs = folded(module_costs(tally))
    if costs:
        columns = (*left("module"), *right("modules", "FLOPs", "share"))
        whole = tally.known
        rows = (
            (each.path, f"{each.modules:,}", exact(each.flops, Unit.FLOP), percent(each.flops, whole)) for each in costs
        )
        yield sheet("FLOPs by module", columns, rows)
        yield sheet("FLOPs by op", _SHARES, share_rows(tally.by_op(), tally.known, Unit.FLOP))
    if tally.bytes_moved is not None:
        yield _bytes(tally, tally.bytes_moved)
    for other in record.measurement.other_tallies:
        phases = ((each, _amount(*other.reading(each))) for each in PHASES)
        yield sheet(f"FLOPs that {other.engine} counts", (*left("phase"), *right("FLOPs")), phases)


def call_sheets(record: Record) -> Iterator[Sheet]:
    """Yield the calls of ops that cost nothing here."""
    tally = record.measurement.flops
    for kind, title in _KINDS:
        calls = tally.calls_of(kind) if tally is not None else {}
        if calls:
            yield sheet(title, (*left("op"), *right("calls")), ((op, f"{number:,}") for op, number in calls.items()))


def _phases(tally: FlopTally, baseline: Baseline | None) -> Sheet:
    before = None if baseline is None or baseline.flops is None else baseline
    shown = [_phase(each, *tally.reading(each), before) for each in PHASES]
    shown.append(_phase("total", *tally.reading(), before))
    columns = (*left("phase"), *right("FLOPs"), *(right("baseline", "change", "") if before is not None else ()))
    notes = [f"Counted by {tally.engine}, attention {tally.attention}."]
    if tally.attention == "causal" and tally.dense_total is not None:
        notes.append(f"With dense attention it would be {exact(tally.dense_total, Unit.FLOP)}.")
    notes.extend(
        f"{op} is an upper bound: {reason}."
        for op, reason in dict.fromkeys((each.op, each.at_most) for each in tally.upper_bounds)
    )
    if tally.kernel_recompute:
        again = exact(tally.kernel_recompute, Unit.FLOP)
        notes.append(f"Fused attention kernels compute {again} again in backward, which are in no total.")
    return sheet("FLOPs by phase", columns, shown, " ".join(notes))


def _phase(name: str, precision: Precision, known: int, baseline: Baseline | None) -> tuple[str, ...]:
    cells = (name, _amount(precision, known))
    if baseline is None or baseline.flops is None:
        return cells
    phases = {str(phase): flops for phase, flops in baseline.flops.items()}
    before = (baseline.total or 0) if name == "total" else phases.get(name, 0)
    if precision == "at least":
        return (*cells, exact(before, Unit.FLOP), "", "not known")
    share = signed_percent(known - before, before) if before and known != before else ""
    return (*cells, exact(before, Unit.FLOP), signed(known - before, Unit.FLOP), share)


def _amount(precision: Precision, known: int) -> str:
    return f"{precision} {exact(known, Unit.FLOP)}".strip()


def _bytes(tally: FlopTally, moved: ByteTally) -> Sheet:
    flops = module_costs(tally)
    rows = (
        (name or OUTSIDE, exact(value, Unit.BYTE), f"{flops.get(name, 0) / value:.1f} FLOP/B" if value else "-")
        for name, value in moved.by_module().items()
    )
    least = "at least " if moved.unknown else ""
    note = f"In all {least}{exact(moved.at_least, Unit.BYTE)}."
    if moved.unknown:
        note += f" Not known for {', '.join(moved.unknown)}."
    return sheet("Bytes moved by module", (*left("module"), *right("bytes", "intensity")), rows, note)
