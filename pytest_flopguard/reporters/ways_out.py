"""What a person can do about a failing finding: fix it, accept it, or move the limit where it is written."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from shlex import quote as quoted

from pytest_flopguard.core.measurement import Measurement
from pytest_flopguard.core.record import Record
from pytest_flopguard.core.units import AmountError, Unit, parse_amount
from pytest_flopguard.core.verdict import Finding
from pytest_flopguard.reporters.amounts import quantity_name, rounded_down, rounded_up
from pytest_flopguard.reporters.finding_text import bound, is_lower_bound

_AMOUNT = re.compile(r"\"[^\"]*\"|'[^']*'|(?<![\w.])[0-9][0-9_]*(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?(?![\w.])")

# Only a broken budget is expected, and a plain run, where nothing breaks, passes too.
_XFAIL = 'xfail(raises=pytest.fail.Exception, strict=False, reason="...")'
_CURES = {
    Unit.FLOP: "make it cheaper: what costs most stands above",
    Unit.BYTE: "hold less at once",
    Unit.COUNT: "make the model smaller",
}


def ways_out(finding: Finding, measurement: Measurement) -> Iterator[str]:
    """Yield one line per way: first the cause, then the exception, then the limit itself."""
    name, origin = quantity_name(finding.expectation.quantity), finding.expectation.origin
    if finding.code == "unknown-op":
        # The lines to paste, which stand above, are the way out.
        return
    if finding.code in ("unknown-architecture", "bad-config", "bad-size"):
        yield f"state   the closed form yourself, by flopguard.expect, in place of {origin}"
        yield f'limit   what it may cost, by flops = "..." in place of {origin}'
        return
    if finding.code == "memory-unknown":
        yield "decide  run this test on a GPU with a limit for cuda, where the peak is measured"
        yield 'accept  unknown-memory = "warn" in [tool.flopguard]: such limits then pass with a warning'
        return
    if finding.status == "undecided" or finding.observed is None:
        yield f"decide  {name}: make the run measure it, or take the limit at {origin} away"
        return
    if finding.code == "cross-check":
        yield "fix     find the engine that is wrong: compare the modules above with a count by hand"
        yield f"accept  stop the comparison: cross-check is set at {origin}"
        return
    if finding.code == "formula-differs":
        if finding.reason:
            yield "fix     build the closed form with the attention that this run counts, or change the setting"
        yield "fix     find the term that differs above: the closed form does not describe it, or it did not run"
        yield "state   the closed form that is right, by flopguard.expect, where the model is meant to be so"
        return
    under = finding.code == "under-budget"
    yield f"fix     {'find what is missing' if under else _CURES[finding.expectation.unit]}"
    yield f'accept  severity = "warn" at {origin}, or {_XFAIL} on the test'
    missing = "ops without a formula add" if finding.device is None else "the memory that is not known adds"
    more = f", or more: {missing} to it" if is_lower_bound(finding, measurement) else ""
    yield f"{'lower ' if under else 'raise '}  at {origin} write {_moved(finding, finding.observed)}{more}"


def baseline_ways(findings: Sequence[Finding], record: Record) -> Iterator[str]:
    """Yield what to do about findings on one baseline: undo it, accept it with a reason, or mute it for a while."""
    codes = {each.code for each in findings}
    if codes == {"no-baseline"}:
        yield f"add     pytest --flop-update=new {quoted(record.nodeid)}"
    elif codes == {"under-baseline"}:
        yield f"lock in  pytest --flop-update=trim {quoted(record.nodeid)}"
    elif codes == {"varying-calls"}:
        yield f'remove  pytest --flop-update=changed --flop-reason="..." {quoted(record.nodeid)}'
    elif codes == {"baseline-environment"}:
        yield "decide  run it where the baseline was measured, or add this environment with --flop-update"
    else:
        yield "fix     undo what the lines above name"
        yield f'accept  pytest --flop-update=changed --flop-reason="..." {quoted(record.nodeid)}'
        yield f"mute    muted_until = YYYY-MM-DD and muted_reason in the entry at {findings[0].expectation.origin}"


def _moved(finding: Finding, observed: int) -> str:
    """Write the limit that just passes in the words that stand at its origin, or by itself if they are not clear."""
    unit, text = finding.expectation.unit, finding.expectation.origin.text
    passing = rounded_down(observed, unit) if finding.code == "under-budget" else rounded_up(observed, unit)
    value = bound(finding)
    amounts = [match for match in _AMOUNT.finditer(text) if value is not None and _reads_as(match.group(), value, unit)]
    if len(amounts) != 1:
        return f'"{passing}" for {finding.expectation.quantity}'
    start, end = amounts[0].span()
    quote = text[start] if text[start] in "'\"" else '"'
    return f"{text[:start]}{quote}{passing}{quote}{text[end:]}"


def _reads_as(text: str, value: int, unit: Unit) -> bool:
    try:
        return parse_amount(text.strip("'\""), unit) == value
    except AmountError:
        return False
