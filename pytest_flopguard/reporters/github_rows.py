"""An entry as a row of a Markdown table, and what there is to say of it as a line."""

from __future__ import annotations

from collections.abc import Iterator

from pytest_flopguard.core.baseline import by_device
from pytest_flopguard.core.comparison import Number
from pytest_flopguard.core.units import Unit, format_amount
from pytest_flopguard.core.verdict import Finding
from pytest_flopguard.reporters.amounts import exact
from pytest_flopguard.reporters.baseline_diff import signed_percent
from pytest_flopguard.reporters.comparison import number
from pytest_flopguard.reporters.finding_text import budget_findings, limit_text, place, sentence, used_text
from pytest_flopguard.reporters.github_entries import Entry
from pytest_flopguard.reporters.markdown_text import cell, cell_code, code
from pytest_flopguard.reporters.module_costs import OUTSIDE
from pytest_flopguard.reporters.why import cause

HEADER = (
    "| | test | FLOPs | change | peak memory | change | limit |",
    "|---|---|--:|--:|--:|--:|---|",
)
# What the comparison says of a test that keeps its limits.
_MOVED = {
    "regression": "dearer",
    "improvement": "cheaper",
    "changed": "changed",
    "undecided": "undecided",
    "new": "new",
}
_NAME = 160
_LINE = 600
_MODULES = 3


def row(entry: Entry) -> str:
    """Return the row of an entry, shown whole or not at all."""
    memory = list(_memory(entry))
    cells = (
        _word(entry),
        _name(entry),
        _flops(entry),
        _change(entry),
        "<br>".join(size for size, _ in memory) or "–",
        "<br>".join(change for _, change in memory),
        _limit(entry),
    )
    return f"| {' | '.join(cells)} |"


def lines(entry: Entry) -> Iterator[str]:
    """Yield what broke or moved, with the modules behind it, as items of a list."""
    told = [f"{sentence(each, entry.record.measurement)} {place(each)}" for each in _once(entry)]
    if entry.compared is not None and entry.compared.verdict not in ("same", "new"):
        told += [*entry.compared.reasons, *map(number, entry.compared.numbers)]
        for each in entry.compared.delta.modules[:_MODULES]:
            sign = "+" if each.flops >= 0 else "-"
            times = f" x{each.modules}" if each.modules > 1 else ""
            amount = format_amount(abs(each.flops), Unit.FLOP)
            told.append(f"{sign}{amount}  {each.path or OUTSIDE}{times}  ({cause(each)})")
        if entry.accepted:
            told.append(f"accepted: {entry.accepted}")
    if told:
        yield f"- {code(entry.title, _NAME)}"
        yield from (f"  - {cell(each, _LINE)}" for each in told)


def _once(entry: Entry) -> Iterator[Finding]:
    """Yield what broke and what is undecided; ops without a formula, of which a limit tells, are not told again."""
    found = list(dict.fromkeys((*entry.broken, *entry.open)))
    told = any(each.code == "unknown-op" and each.expectation.source != "setting" for each in found)
    yield from (each for each in found if not told or each.expectation.source != "setting")


def _word(entry: Entry) -> str:
    if entry.broken:
        return f"**{cell(entry.word, 20)}**"
    if entry.accepted:
        return "accepted"
    moved = _MOVED.get(entry.compared.verdict, "") if entry.compared is not None else ""
    return moved if moved and entry.word in ("ok", "no budget") else cell(entry.word, 20)


def _name(entry: Entry) -> str:
    name = cell_code(entry.record.nodeid, _NAME)
    return f"{name} {cell_code(entry.region, 60)}".rstrip()


def _flops(entry: Entry) -> str:
    tally = entry.record.measurement.flops
    if tally is None:
        return "–"
    precision, known = tally.reading()
    return {"": "", "at least": "≥ ", "at most": "≤ "}[precision] + format_amount(known, Unit.FLOP)


def _change(entry: Entry) -> str:
    if entry.compared is None:
        return ""
    if entry.compared.verdict == "new":
        return "new"
    if entry.compared.verdict == "changed":
        return "other work"
    moved = next((each for each in entry.compared.numbers if each.quantity == "flops"), None)
    tally = entry.record.measurement.flops
    if moved is None:
        return "?" if entry.unknown_flops else "=" if tally else ""
    return _signed(moved)


def _memory(entry: Entry) -> Iterator[tuple[str, str]]:
    for device, peak in by_device(entry.record.measurement.memory).items():
        size = cell(f"{'≥ ' if peak.is_lower_bound else ''}{format_amount(peak.peak_bytes, Unit.BYTE)} {device}", 60)
        compared = entry.compared
        if compared is None or compared.verdict in ("new", "changed"):
            yield size, ""
            continue
        moved = next((each for each in compared.numbers if each.device == device), None)
        unknown = any(each.startswith(f"memory of {device}:") for each in compared.reasons)
        yield size, _signed(moved) if moved is not None else "?" if unknown else "="


def _limit(entry: Entry) -> str:
    findings = budget_findings(entry.record)
    if not findings or findings[0].code == "no-baseline":
        return ""
    used = used_text(findings[0], entry.record.measurement)
    return cell(limit_text(findings[0]) + ("" if used == "-" else f", {used} used"), 80)


def _signed(moved: Number) -> str:
    if moved.before:
        return cell(signed_percent(moved.now - moved.before, moved.before))
    return cell(f"+{exact(moved.now, Unit.COUNT)}")
