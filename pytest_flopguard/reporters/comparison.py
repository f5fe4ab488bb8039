"""Two runs compared, as text, as Markdown, or as JSON."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence

from pytest_flopguard.core.comparison import VERDICTS, Compared, Number
from pytest_flopguard.core.expectation import UNITS
from pytest_flopguard.core.memory_delta import without_moves
from pytest_flopguard.core.units import Unit
from pytest_flopguard.reporters.amounts import exact, quantity_name, signed_amount
from pytest_flopguard.reporters.baseline_diff import signed_percent
from pytest_flopguard.reporters.markdown_text import cell, cell_code
from pytest_flopguard.reporters.memory_difference import place
from pytest_flopguard.reporters.module_costs import OUTSIDE
from pytest_flopguard.reporters.why import cause

FORMAT_VERSION = 1
_TOP = 10


def text(found: Sequence[Compared], before: str, now: str) -> str:
    """Render what differs, the worst first: each number, and the modules behind it."""
    lines = [f"{before} -> {now}"]
    for each in _told(found):
        lines.append(f"{each.verdict:<11}  {title(each)}")
        lines += [f"{'':13}{line}" for line in (*each.reasons, *map(number, each.numbers), *_modules(each))]
    return "\n".join([*lines, summary(found)])


def markdown(found: Sequence[Compared], before: str, now: str) -> str:
    """Render a table of what differs, for a comment or a job summary."""
    rows = list(_told(found))
    lines = [f"**{summary(found)}** ({cell(before)} → {cell(now)})"]
    if rows:
        lines += ["", "| test | verdict | numbers | modules |", "|---|---|---|---|"]
    for each in rows:
        told = "<br>".join(cell(line) for line in (*each.reasons, *map(number, each.numbers)))
        modules = "<br>".join(cell(line) for line in _modules(each))
        lines.append(f"| {cell_code(title(each))} | {each.verdict} | {told} | {modules} |")
    return "\n".join(lines)


def document(found: Sequence[Compared], before: str, now: str) -> str:
    """Render everything as JSON, format_version 1: exact integers, tests that are the same too."""
    data = {
        "format_version": FORMAT_VERSION,
        "before": before,
        "now": now,
        "summary": _counts(found),
        "tests": [
            {
                "nodeid": each.nodeid,
                "region": each.region,
                "verdict": each.verdict,
                "reasons": list(each.reasons),
                "numbers": [
                    {"quantity": n.quantity, "device": n.device, "before": n.before, "now": n.now} for n in each.numbers
                ],
                "modules": [
                    {"path": module.path, "modules": module.modules, "flops": module.flops, "cause": cause(module)}
                    for module in each.delta.modules
                ],
                "memory": [
                    {
                        "device": device,
                        "category": held.category,
                        "path": held.path,
                        "modules": held.modules,
                        "before": held.before,
                        "now": held.now,
                    }
                    for device, rows in each.memory.items()
                    for held in rows
                ],
            }
            for each in found
        ],
    }
    return json.dumps(data, indent=2, ensure_ascii=False)


def summary(found: Sequence[Compared]) -> str:
    """Count the verdicts in one line."""
    counts = _counts(found)
    told = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
    return f"{len(found)} compared" + (f": {told}" if told else "")


def title(compared: Compared) -> str:
    """Name a test, and its region where it has one."""
    return f"{compared.nodeid}  {compared.region}".rstrip()


def number(moved: Number) -> str:
    """Tell a number before and now."""
    unit = UNITS[moved.quantity]
    name = quantity_name(moved.quantity) + (f" on {moved.device}" if moved.device else "")
    share = f" ({signed_percent(moved.now - moved.before, moved.before)})" if moved.before else ""
    return f"{name}: {exact(moved.before, unit)} -> {exact(moved.now, unit)}{share}"


def _told(found: Sequence[Compared]) -> Iterator[Compared]:
    """Leave out what is the same, unless a part of it could not be compared."""
    yield from (each for each in found if each.verdict != "same" or each.reasons)


def _modules(compared: Compared) -> Iterator[str]:
    rows = compared.delta.modules
    for each in rows[:_TOP]:
        times = f" x{each.modules}" if each.modules > 1 else ""
        yield f"{signed_amount(each.flops, Unit.FLOP)}  {each.path or OUTSIDE}{times}  ({cause(each)})"
    if len(rows) > _TOP:
        yield f"and {len(rows) - _TOP} more places"
    for device, every in compared.memory.items():
        held = without_moves(every)
        for more in held[:_TOP]:
            yield f"{signed_amount(more.bytes, Unit.BYTE)}  {place(more)}  (on {device} at its peak)"
        if len(held) > _TOP:
            yield f"and {len(held) - _TOP} more places on {device}"


def _counts(found: Sequence[Compared]) -> dict[str, int]:
    counts = Counter(each.verdict for each in found)
    return {verdict: counts[verdict] for verdict in VERDICTS if counts[verdict]}
