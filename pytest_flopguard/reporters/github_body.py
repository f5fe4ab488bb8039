"""Runs as Markdown for GitHub, cut by whole tests to the size that it takes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial

from pytest_flopguard.core.comparison import Compared
from pytest_flopguard.core.standing import fails
from pytest_flopguard.core.units import Unit, format_amount
from pytest_flopguard.reporters.baseline_diff import signed_percent
from pytest_flopguard.reporters.github_entries import Entry, Leg
from pytest_flopguard.reporters.github_rows import HEADER, lines, row
from pytest_flopguard.reporters.markdown_text import cell, code

# What "and 123 more" and the lines around it may take.
_RESERVE = 200
_VERSION = re.compile(r"[\w.+-]{1,40}")
_NOTE = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """Texts that may be cut from the end, whole ones, between lines that may not; an empty one is left out.

    They are made when they are shown: of a long run the most are not.
    """

    head: tuple[str, ...]
    items: tuple[Callable[[], str], ...]
    tail: tuple[str, ...]
    what: str = "tests"


def body(legs: Sequence[Leg], *, most: int, title: str, link: str = "") -> str:
    """Render runs in at most so many bytes of UTF-8; what is cut is counted."""
    first, last = [f"### {title}", ""], list(_foot(legs, link))
    room = most - _size([*first, *last]) - _RESERVE
    parts: list[_Part] = []
    shown = 0
    for leg in legs:
        more = list(_parts(leg, named=len(legs) > 1))
        needed = sum(_size([*each.head, *each.tail]) + _RESERVE for each in more)
        if needed > room:
            break
        room -= needed
        parts += more
        shown += 1
    if shown < len(legs):
        last = [f"and {len(legs) - shown} more runs, which the job's artifacts hold", "", *last]
    return "\n".join([*first, *_filled(parts, room), *last]) + "\n"


def problem_body(problem: str, link: str = "") -> str:
    """Render that there is no run to show, and why."""
    return "\n".join(["### flopguard: no report", "", cell(problem, _NOTE), "", *_foot([], link)]) + "\n"


def headline(legs: Sequence[Leg]) -> str:
    """Count what broke and what moved in all runs together, in one line."""
    counts = {"broken": 0, "failed": 0, "dearer": 0, "undecided": 0, "warned": 0, "cheaper": 0, "new": 0, "accepted": 0}
    for entry in (entry for leg in legs for entry in leg.entries):
        found = entry.compared.verdict if entry.compared else ""
        counts["broken"] += bool(entry.broken)
        counts["failed"] += bool(not entry.broken and fails(entry.record, entry.standing))
        counts["dearer"] += entry.dearer
        counts["undecided"] += not entry.broken and (bool(entry.open) or entry.unclear)
        counts["warned"] += entry.word == "warn"
        counts["cheaper"] += found == "improvement"
        counts["new"] += found == "new" or (not found and entry.word == "new")
        counts["accepted"] += bool(entry.accepted)
    gone = sum(len(leg.gone) for leg in legs)
    lost = sum(leg.lost for leg in legs)
    told = [f"{count} {word}" for word, count in {"without a report": lost, **counts, "gone": gone}.items() if count]
    measured = sum(len(leg.entries) for leg in legs)
    return f"flopguard: {', '.join(told)} of {measured} measured" if told else f"flopguard: {measured} measured"


def _parts(leg: Leg, *, named: bool) -> Iterator[_Part]:
    moved = [each for each in leg.entries if each.moved]
    found = "no report" if leg.lost else headline([leg]).removeprefix("flopguard: ")
    opening = [f"#### {code(leg.name)}: {found}", ""] if named else []
    opening += [*_totals(leg), *_notes(leg)]
    yield _Part(head=tuple(opening), items=(), tail=())
    rows = {id(each): cache(partial(row, each)) for each in leg.entries}
    if moved:
        # Open where somebody has to act, folded where there is only something to see.
        state = " open" if any(each.broken or each.dearer for each in moved) else ""
        head = (f"<details{state}><summary>What broke or changed: {len(moved)}</summary>", "", *HEADER)
        yield _Part(head=head, items=tuple(rows[id(each)] for each in moved), tail=("",))
        why = tuple(partial(_explained, each) for each in moved if leg.trusted)
        yield _Part(head=(), items=why, tail=("", "</details>", ""), what="explanations")
    if leg.gone:
        gone = tuple(partial(_gone, each) for each in leg.gone)
        folded = (f"<details><summary>No longer measured: {len(gone)}</summary>", "")
        yield _Part(head=folded, items=gone, tail=("", "</details>", ""))
    if len(moved) < len(leg.entries):
        head = (f"<details><summary>All {len(leg.entries)} measured</summary>", "", *HEADER)
        yield _Part(head=head, items=tuple(rows.values()), tail=("", "</details>", ""))


def _explained(entry: Entry) -> str:
    return "\n".join(lines(entry))


def _gone(compared: Compared) -> str:
    return f"- {code(f'{compared.nodeid}  {compared.region}'.rstrip(), 200)}"


def _filled(parts: Sequence[_Part], room: int) -> Iterator[str]:
    """Yield the parts with as many of their items as there is room for; earlier parts are filled first."""
    for part in parts:
        yield from part.head
        kept = 0
        for item in part.items:
            text = item()
            size = _size([text]) if text else 0
            if size > room:
                break
            room -= size
            kept += 1
            if text:
                yield text
        if kept < len(part.items):
            yield from ("", f"and {len(part.items) - kept} more {part.what}, which the report file holds")
        yield from part.tail


def _totals(leg: Leg) -> Iterator[str]:
    if not leg.against:
        return
    flops, memory = leg.delta("flops"), leg.delta("peak_memory", "memory_growth")
    told = []
    if flops:
        before, now = sum(old for old, _ in flops), sum(new for _, new in flops)
        share = f" ({signed_percent(now - before, before)})" if before else ""
        told.append(f"FLOPs {format_amount(before, Unit.FLOP)} → {format_amount(now, Unit.FLOP)}{share}")
    if memory:
        before, now = max(memory, key=lambda pair: abs(pair[1] - pair[0]))
        share = f" ({signed_percent(now - before, before)})" if before else ""
        told.append(
            f"largest move of a peak {format_amount(before, Unit.BYTE)} → {format_amount(now, Unit.BYTE)}{share}"
        )
    what = f"in what moved, {'; '.join(told)}" if told else "no number moved"
    yield f"Against {cell(leg.against, 80)}: {cell(what)}"
    yield ""


def _notes(leg: Leg) -> Iterator[str]:
    notes = [*leg.notes, *(leg.run.notes if leg.trusted else ())]
    for each in notes[:20]:
        yield f"- {cell(each, _NOTE)}"
    if notes:
        yield ""


def _foot(legs: Sequence[Leg], link: str) -> Iterator[str]:
    seen: dict[str, None] = {}
    for leg in legs:
        for name in ("torch", "python"):
            version = leg.run.environment.get(name)
            # Of a file that anybody may have written only what looks like a version is shown.
            if isinstance(version, str) and _VERSION.fullmatch(version):
                seen[f"{name} {version}"] = None
    told = [*(cell(each) for each in list(seen)[:8]), *([f"[run]({link})"] if link else [])]
    if told:
        yield f"<sub>{' · '.join(told)}</sub>"


def _size(written: Sequence[str]) -> int:
    return sum(len(each.encode("utf-8")) + 1 for each in written)
