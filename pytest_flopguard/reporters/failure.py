"""The text with which a broken budget fails its test."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from pytest_flopguard.core.baseline_verdict import BASELINE
from pytest_flopguard.core.expectation import phase_of
from pytest_flopguard.core.measurement import PHASES, FlopTally
from pytest_flopguard.core.record import Record
from pytest_flopguard.core.units import Unit, format_amount
from pytest_flopguard.core.verdict import Finding
from pytest_flopguard.reporters.amounts import exact, percent, quantity_name
from pytest_flopguard.reporters.details import details
from pytest_flopguard.reporters.finding_text import bound, is_lower_bound, once, place, sentence, tightest_first
from pytest_flopguard.reporters.formula_table import formula_lines
from pytest_flopguard.reporters.module_costs import folded, module_costs
from pytest_flopguard.reporters.owners_table import largest, peak_lines
from pytest_flopguard.reporters.unknown_ops import unknown_op_lines
from pytest_flopguard.reporters.ways_out import baseline_ways, ways_out
from pytest_flopguard.reporters.why import headline, why_lines

DOCS = "docs/reference/messages.md"
_TOP = 10
_LIMITS = {"formula": "formula", "baseline": "baseline"}


def render(record: Record, *, verbosity: int, newer: Sequence[str] = ()) -> str:
    """Render every finding of a record that fails: what, where it is limited, what costs most, the ways out.

    Where none fails, those that only warn. One line for verbosity -1, the ten dearest modules for 0 and 1, everything
    the record holds for 2. ``newer`` are sentences on libraries newer than the tested ones, shown with unknown ops.
    """
    findings = tightest_first(record)
    failing = [each for each in findings if each.fails] or [each for each in findings if _warns(each)]
    held = [each for each in failing if each.expectation.source == "baseline"]
    seen = record.measurement
    if verbosity < 0:
        told = "; ".join(f"{_told(record, each)} {place(each)}{_most(record, each)}" for each in once(failing))
        return f"{told}; {headline(record)}" if held and record.baseline is not None else told
    blocks = [list(_head(record, each)) for each in once(failing)]
    varying = seen.unavailable.get(BASELINE, "")
    if varying and any(each.status == "broken" for each in failing):
        blocks.append([f"The number of calls varies: {varying}"])
    if seen.flops is not None:
        differing = [each.expectation for each in failing if each.code == "formula-differs" and each.expectation.parts]
        blocks.extend(list(formula_lines(each, seen.flops)) for each in differing)
    if record.baseline is not None and held:
        blocks.append(list(why_lines(record, verbosity=verbosity)))
    others = [each for each in failing if each not in held]
    if seen.flops is not None and any(_is_broken(each, Unit.FLOP) for each in others):
        blocks.append(list(_modules(seen.flops, others)))
    for peak in seen.memory:
        if any(_is_broken(each, Unit.BYTE) and each.device == peak.device for each in others):
            blocks.append(list(peak_lines(peak)))
    if seen.flops is not None and any(each.code == "unknown-op" for each in failing):
        undecided = [each.expectation.origin for each in failing if each.code == "unknown-op" and _is_budget(each)]
        blocks.append(["Ops without a formula", *newer, *unknown_op_lines(seen.flops.unknown_ops, undecided)])
    ways = [(each, list(ways_out(each, seen))) for each in once(others)]
    if held:
        blocks.append(["Ways out", *(f"  {line}" for line in baseline_ways(held, record))])
    for each, lines in ways:
        title = "Ways out" if len(ways) == 1 else f"Ways out for {quantity_name(each.expectation.quantity)}"
        blocks.append([title, *(f"  {line}" for line in lines)] if lines else [])
    if verbosity > 1:
        blocks.append(["Everything measured", *details(record)])
    blocks.append([f"{code}: {DOCS}#{code}" for code in dict.fromkeys(each.code for each in failing)])
    return "\n\n".join("\n".join(block) for block in blocks if block)


def _warns(finding: Finding) -> bool:
    return finding.status != "met" and finding.code != "device-absent"


def _is_budget(finding: Finding) -> bool:
    return finding.expectation.quantity != "unknown_ops"


def _is_broken(finding: Finding, unit: Unit) -> bool:
    return finding.status == "broken" and finding.expectation.unit is unit


def _head(record: Record, finding: Finding) -> Iterator[str]:
    wanted, value = finding.expectation, bound(finding)
    yield _told(record, finding)
    rows: list[tuple[str, int]] = []
    if finding.observed is not None and finding.status == "broken":
        rows.append(("at least" if is_lower_bound(finding, record.measurement) else "measured", finding.observed))
    if value is not None and wanted.source != "setting":
        rows.append((_LIMITS.get(wanted.source, "limit"), value))
    if len(rows) == 2:
        rows.append(("under by" if rows[0][1] < rows[1][1] else "over by", abs(rows[0][1] - rows[1][1])))
    width = max((len(exact(amount, wanted.unit)) for _, amount in rows), default=0)
    yield from (f"  {name:<8}  {exact(amount, wanted.unit):>{width}}" for name, amount in rows)
    word = "setting" if wanted.source == "setting" else "written"
    yield f"  {word:<8}  {place(finding)}  {wanted.origin.text}".rstrip()


def _told(record: Record, finding: Finding) -> str:
    label = record.measurement.label
    return sentence(finding, record.measurement) + (f" in region {label!r}" if label else "")


def _modules(tally: FlopTally, failing: Iterable[Finding]) -> Iterator[str]:
    """Yield the dearest modules of the one phase that failed, or of all phases."""
    quantities = {each.expectation.quantity for each in failing if _is_broken(each, Unit.FLOP)}
    quantity = quantities.pop() if len(quantities) == 1 else "flops"
    costs = module_costs(tally, phase_of(quantity))
    whole = sum(costs.values())
    if quantity == "flops":
        yield f"What costs most, of {format_amount(whole, Unit.FLOP)}"
        yield from _phases(tally)
    else:
        yield f"What costs most, of {format_amount(whole, Unit.FLOP)} ({quantity_name(quantity)})"
    rows = folded(costs)
    for each in rows[:_TOP]:
        times = f"  x{each.modules}" if each.modules > 1 else ""
        yield f"  {percent(each.flops, whole):>7}  {format_amount(each.flops, Unit.FLOP):>13}  {each.path}{times}"
    if len(rows) > _TOP:
        rest = sum(each.flops for each in rows[_TOP:])
        amount = format_amount(rest, Unit.FLOP)
        more = sum(each.modules for each in rows[_TOP:])
        yield f"  {percent(rest, whole):>7}  {amount:>13}  in {more} more modules (-vv shows them)"


def _phases(tally: FlopTally) -> Iterator[str]:
    found = {phase: sum(module_costs(tally, phase).values()) for phase in PHASES}
    shown = [f"{phase} {format_amount(flops, Unit.FLOP)}" for phase, flops in found.items() if flops]
    if len(shown) > 1:
        yield f"  {', '.join(shown)}"


def _most(record: Record, finding: Finding) -> str:
    if finding.expectation.source == "baseline" or not _is_broken(finding, Unit.BYTE):
        return ""
    held = [largest(peak) for peak in record.measurement.memory if peak.device == finding.device]
    return "".join(f", {each}" for each in held[:1] if each)
