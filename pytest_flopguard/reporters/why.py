"""Why a number moved: what differs from the baseline, module by module, the largest difference first."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

from pytest_flopguard.core.baseline import Baseline, by_device
from pytest_flopguard.core.delta import Delta, ModuleDelta, OpDelta, delta_of
from pytest_flopguard.core.measurement import PHASES, Measurement
from pytest_flopguard.core.record import Record
from pytest_flopguard.core.units import Unit, format_amount
from pytest_flopguard.core.workload import config_changes, input_changes
from pytest_flopguard.reporters.amounts import exact, percent, signed_amount
from pytest_flopguard.reporters.formula_table import formula_lines
from pytest_flopguard.reporters.memory_difference import memory_cause, memory_lines
from pytest_flopguard.reporters.module_costs import OUTSIDE
from pytest_flopguard.reporters.owners_table import peak_lines
from pytest_flopguard.reporters.unknown_ops import place_lines

_TOP = 10
_SAME_OPS = "the counted ops are as before: their tensors are wider (another dtype), or are kept longer"


def render(record: Record, *, verbosity: int, whole: bool = False) -> str:
    """Render all that differs between a record and its baseline: one line for verbosity -1, all ops for 2.

    ``whole`` also tells what is as before: what was alive at the peak, and which ops no FLOPs are counted of.
    """
    baseline, seen = record.baseline, record.measurement
    name = f"{record.nodeid}  {seen.label}".rstrip()
    missing = f"{name}: no baseline to differ from"
    if verbosity < 0:
        return missing if baseline is None else f"{name}: {headline(record)}"
    blocks = [[missing]] if baseline is None else [[name], list(why_lines(record, verbosity=verbosity))]
    for device, peak in by_device(seen.memory).items():
        accepted = None if baseline is None else baseline.memory.get(device)
        if whole and (accepted is None or not any(memory_lines(accepted, device, peak, verbosity=verbosity))):
            blocks.append(list(peak_lines(peak, verbosity=verbosity)))
    if seen.flops is not None:
        forms = [each.expectation for each in record.findings if each.expectation.parts]
        blocks += [list(formula_lines(each, seen.flops)) for each in forms]
        if seen.flops.unknown_ops:
            blocks.append(["Ops without a formula", *place_lines(seen.flops.unknown_ops)])
        if whole and seen.flops.calls_of("uncounted"):
            calls = ", ".join(f"{op} x{number:,}" for op, number in seen.flops.calls_of("uncounted").items())
            blocks.append(["Ops that the convention leaves uncounted", f"  {calls}"])
    return "\n\n".join("\n".join(block) for block in blocks if block)


def why_lines(record: Record, *, verbosity: int) -> Iterator[str]:
    """Yield the differences of workload, FLOPs and memory; one line where there is none."""
    baseline, seen = record.baseline, record.measurement
    if baseline is None:
        return
    delta = delta_of(baseline, seen)
    moved = [*_workload(baseline, record), *_flops(baseline, record, delta, verbosity), *_parameters(baseline, seen)]
    memory: list[str] = []
    for device, peak in by_device(seen.memory).items():
        if device in baseline.memory:
            memory += memory_lines(baseline.memory[device], device, peak, verbosity=verbosity)
    if memory and not moved and seen.flops is not None and baseline.flops is not None:
        memory.insert(1, f"  {_SAME_OPS}")
    yield from [*moved, *memory] or ["Nothing differs from the baseline"]


def headline(record: Record) -> str:
    """Tell the largest cause in one line; where only memory is over, that of memory comes first."""
    baseline = record.baseline or Baseline()
    now = record.measurement.workload
    changed = [*input_changes(baseline.workload, now), *config_changes(baseline.workload, now)]
    if changed:
        return changed[0]
    flops, memory = _of_flops(delta_of(baseline, record.measurement)), _of_memory(baseline, record)
    parameters = "; ".join(_parameters(baseline, record.measurement))
    over = {each.expectation.unit for each in record.findings if each.code == "over-baseline"}
    if over and over <= {Unit.BYTE, Unit.COUNT}:
        return "; ".join(filter(None, (parameters, memory, flops)))
    return flops or parameters or memory or "nothing differs from the baseline"


def _parameters(baseline: Baseline, seen: Measurement) -> Iterator[str]:
    before, now = baseline.parameters, seen.parameters
    if before is None or now is None or before == now:
        return
    if before.count != now.count:
        yield f"parameters {before.count:,} -> {now.count:,} ({now.count - before.count:+,})"
    else:
        each = [f"{float(Fraction(size.bytes, size.count)):.4g}" for size in (before, now)]
        yield f"bytes of a parameter {each[0]} -> {each[1]}: another dtype"


def _of_flops(delta: Delta) -> str:
    """Return what explains most of the change in FLOPs: a part that came or went as a whole, or what a module does."""
    change = sum(each.flops for each in delta.modules)
    sign = -1 if change < 0 else 1
    causes = [(flops, f"new: {_part(path, flops)}") for path, flops in delta.added.items()]
    causes += [(-flops, f"gone: {_part(path, flops)}") for path, flops in delta.gone.items()]
    causes += [
        (each.flops, f"{each.path or OUTSIDE}: {signed_amount(each.flops, Unit.FLOP)}, {cause(each)}")
        for each in delta.modules
    ]
    if not causes:
        return ""
    # The first of equal ones: a part that is new says more than the modules in it.
    flops, text = max(causes, key=lambda each: each[0] * sign)
    return text if flops == change else f"{text}; {signed_amount(change, Unit.FLOP)} in all"


def _part(path: str, flops: int) -> str:
    return f"{path or OUTSIDE}, {format_amount(flops, Unit.FLOP)}"


def _of_memory(baseline: Baseline, record: Record) -> str:
    peaks = by_device(record.measurement.memory).items()
    told = (memory_cause(baseline.memory[device], device, peak) for device, peak in peaks if device in baseline.memory)
    return next((each for each in told if each), "")


def cause(delta: ModuleDelta) -> str:
    """Say in a few words what a module does otherwise."""
    ops = delta.ops
    if set(delta.phases) == {"recompute"}:
        return "done again in backward: checkpointing" if delta.flops > 0 else "no longer done again in backward"
    if not any(each.before.calls for each in ops):
        return f"did not run before: {_names(ops)}"
    if not any(each.now.calls for each in ops):
        return f"no longer runs: {_names(ops)}"
    came = tuple(each for each in ops if not each.before.calls)
    went = tuple(each for each in ops if not each.now.calls)
    if came or went:
        return f"other ops: {_names(went) or 'none'} before, {_names(came) or 'none'} now"
    first = ops[0]
    if first.before.masked != first.now.masked:
        less = "less" if first.now.masked < first.before.masked else "more"
        return (
            f"a mask hides {less}: {format_amount(first.before.masked, Unit.FLOP)} before, "
            f"{format_amount(first.now.masked, Unit.FLOP)} now"
        )
    if first.before.calls != first.now.calls:
        return f"{first.op} called {_times(first.before.calls)} before, {first.now.calls:,} now"
    old, new = sum(first.before.flops.values()), sum(first.now.flops.values())
    share = f"{new / old:.2f} times what it did" if old else "more than nothing"
    return f"larger operands: {first.op} costs {share}" if new > old else f"smaller operands: {first.op} costs {share}"


def _times(calls: int) -> str:
    return f"{calls:,} time{'s' if calls != 1 else ''}"


def _names(ops: tuple[OpDelta, ...]) -> str:
    return ", ".join(each.op for each in ops)


def _workload(baseline: Baseline, record: Record) -> Iterator[str]:
    for title, changed in workload_changes(baseline, record):
        yield title
        yield from (f"  {each}" for each in changed)
        yield ""


def workload_changes(baseline: Baseline, record: Record) -> Iterator[tuple[str, list[str]]]:
    """Yield the title and the lines of what differs in the inputs, and in the model's config."""
    before, now = baseline.workload, record.measurement.workload
    for title, changed in (
        ("What the workload was before, and is now", input_changes(before, now)),
        ("What the model's config was before, and is now", config_changes(before, now)),
    ):
        if changed:
            yield title, changed


def _flops(baseline: Baseline, record: Record, delta: Delta, verbosity: int) -> Iterator[str]:
    tally = record.measurement.flops
    if tally is None or baseline.total is None or not delta.modules:
        return
    whole, now = baseline.total, tally.known
    yield (
        f"What differs from the baseline: FLOPs {format_amount(whole, Unit.FLOP)} -> {format_amount(now, Unit.FLOP)} "
        f"({signed_amount(now - whole, Unit.FLOP)})"
    )
    for phase in PHASES:
        old, new = (baseline.flops or {}).get(phase, 0), tally.known_in(phase)
        if phase in delta.phases and (phase == "recompute" or len(delta.phases) > 1):
            yield f"  {phase} {format_amount(old, Unit.FLOP)} -> {format_amount(new, Unit.FLOP)}{_told_of(phase, new)}"
    for word, parts in (("new", delta.added), ("gone", delta.gone)):
        for path, flops in parts.items():
            yield f"  {word}: {_part(path, flops)} in all"
    rows = delta.modules if verbosity > 1 else delta.modules[:_TOP]
    for each in rows:
        times = f"  x{each.modules}" if each.modules > 1 else ""
        share = percent(abs(each.flops), whole)
        more = signed_amount(each.flops, Unit.FLOP)
        yield f"  {more:>13}  {share:>7}  {each.path or OUTSIDE}{times}  ({cause(each)})"
        if verbosity > 1:
            yield from (f"{'':26}{line}" for line in _op_lines(each))
    rest = delta.modules[len(rows) :]
    if rest:
        total = sum(each.flops for each in rest)
        yield f"  {signed_amount(total, Unit.FLOP):>13}  in {len(rest)} more places (-vv shows them)"


def _told_of(phase: str, now: int) -> str:
    if phase != "recompute":
        return ""
    return ": checkpointing does forward work again" if now else ": checkpointing is off"


def _op_lines(delta: ModuleDelta) -> Iterator[str]:
    for each in delta.ops:
        for phase in PHASES:
            old, new = each.before.flops.get(phase, 0), each.now.flops.get(phase, 0)
            if old != new:
                yield f"{each.op} {phase}: {exact(old, Unit.FLOP)} -> {exact(new, Unit.FLOP)}"
        if each.before.calls != each.now.calls:
            yield f"{each.op} calls: {each.before.calls:,} -> {each.now.calls:,}"
