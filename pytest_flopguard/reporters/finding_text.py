"""A finding in words: its verdict, its limit, how much of that is used, and one sentence."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction

from pytest_flopguard.core.errors import message
from pytest_flopguard.core.expectation import phase_of
from pytest_flopguard.core.measurement import Measurement, Precision
from pytest_flopguard.core.record import Record
from pytest_flopguard.core.units import format_amount
from pytest_flopguard.core.verdict import Finding
from pytest_flopguard.reporters.amounts import exact, percent, quantity_name, used

_BROKEN = {
    "over-budget": "OVER",
    "under-budget": "UNDER",
    "over-baseline": "OVER",
    "under-baseline": "UNDER",
    "cross-check": "DIFFERS",
    "formula-differs": "DIFFERS",
}
_UNDECIDED = {"no-baseline": "new", "workload-changed": "changed", "region-gone": "gone", "varying-calls": "varies"}
# Why there is no closed form: the reason is the whole story.
_WITHOUT_FORM = ("no-model", "unknown-architecture", "bad-config", "bad-size")
_WITH_NUMBERS = ("over-budget", "under-budget", "within-budget", "over-baseline", "under-baseline")
# What a baseline leaves undecided: the reason again.
_WITHOUT_NUMBER = ("no-baseline", "workload-changed", "region-gone", "varying-calls", "baseline-environment")
# What the limit column leaves out: the unit tells these two apart already.
_PLAIN = ("flops", "peak_memory")


def verdict(finding: Finding) -> str:
    """Return the table's word for a finding."""
    if finding.status == "met":
        return "ok"
    if finding.status == "undecided":
        return _UNDECIDED.get(finding.code, "undecided")
    return "warn" if finding.expectation.severity == "warn" else _BROKEN.get(finding.code, finding.code)


def tightest_first(record: Record) -> list[Finding]:
    """Order findings by what a reader must see first: failing, warned, undecided, met; then the most used limit."""
    rank = {"broken": 0, "undecided": 1, "met": 2}

    def urgency(finding: Finding) -> tuple[bool, int, bool, Fraction]:
        own = finding.expectation.source not in ("setting", "cross-check")
        return not finding.fails, rank[finding.status], not own, -_use(finding)

    return sorted(record.findings, key=urgency)


def budget_findings(record: Record) -> list[Finding]:
    """Return what the table shows of a record: rules of the house (unknown ops, cross-check) only where not met."""
    return [
        each
        for each in tightest_first(record)
        if each.status != "met" or each.expectation.source not in ("setting", "cross-check")
    ]


def once(findings: Iterable[Finding]) -> list[Finding]:
    """Leave out the rule against unknown ops where a budget tells of them already."""
    found = list(findings)
    told = any(each.code == "unknown-op" and each.expectation.quantity != "unknown_ops" for each in found)
    return [each for each in found if not told or each.expectation.quantity != "unknown_ops"]


def bound(finding: Finding) -> int | None:
    """Return the end of the interval that matters: the broken one, else the upper, else the lower."""
    low, high = finding.expectation.low, finding.expectation.high
    return low if finding.code in ("under-budget", "under-baseline") or high is None else high


def limit_text(finding: Finding) -> str:
    """Render the limit with its quantity where the unit does not tell it: ``9 GFLOP``, ``growth 1.2 GiB``."""
    wanted, value = finding.expectation, bound(finding)
    if value is None and wanted.source == "formula":
        return "formula"
    name = "" if wanted.quantity in _PLAIN else quantity_name(wanted.quantity).removesuffix(" FLOPs") + " "
    amount = "-" if value is None else format_amount(value, wanted.unit)
    sign = "" if value is None else "= " if wanted.low == wanted.high else ">= " if value == wanted.low else ""
    device = f" {wanted.device}" if wanted.device and finding.device is None else ""
    return f"{name}{sign}{amount}{device}"


def used_text(finding: Finding, measurement: Measurement) -> str:
    """Render the observed share of the limit, ``-`` where there is none."""
    value = bound(finding)
    share = "-" if value is None or finding.observed is None else used(finding.observed, value)
    return share if share == "-" else least_sign(finding, measurement) + share


def place(finding: Finding) -> str:
    """Return where the limit is written; a rule of the house is named by its setting."""
    origin = finding.expectation.origin
    return f"unknown-ops, {origin}" if finding.expectation.quantity == "unknown_ops" else str(origin)


def sentence(finding: Finding, measurement: Measurement) -> str:
    """Tell a finding in one sentence that ends with its code."""
    wanted, value = finding.expectation, bound(finding)
    subject = quantity_name(wanted.quantity) + (f" on {finding.device}" if finding.device else "")
    if finding.code == "unknown-op":
        return _unknown(finding, measurement)
    if finding.code == "device-absent":
        seen = ", ".join(each.device for each in measurement.memory) or "no device"
        reason = (f" ({finding.reason})" if finding.reason else "") + f": {_how_to_decide(finding, seen)}"
        return message(finding.code, quantity=subject, keys=wanted.device, devices=seen, reason=reason)
    if finding.code == "memory-unknown" and finding.observed is not None and value is not None:
        observed, limit = format_amount(finding.observed, wanted.unit), format_amount(value, wanted.unit)
        return message(finding.code, quantity=subject, observed=observed, limit=limit, reason=finding.reason)
    if finding.code in _WITHOUT_NUMBER:
        return message(finding.code, quantity=subject, reason=finding.reason)
    if finding.code in _WITHOUT_FORM:
        return f"{subject}: {finding.reason} [{finding.code}]"
    if finding.observed is None or value is None:
        return message("not-measured", quantity=subject, reason=finding.reason or "nothing was observed")
    if finding.code == "upper-bound":
        return message(
            finding.code,
            quantity=subject,
            observed=format_amount(finding.observed, wanted.unit),
            limit=format_amount(value, wanted.unit),
            reason=finding.reason,
        )
    if finding.code == "cross-check":
        return _disagreement(finding, measurement, finding.observed, value)
    if finding.code == "formula-differs":
        return _difference(finding, subject, finding.observed, value)
    if finding.code not in _WITH_NUMBERS:
        # A report may come from anywhere, and hold a code that no finding has.
        return f"{subject}: {finding.reason or finding.status} [{finding.code}]"
    precision = _precision(finding, measurement)
    excess = abs(finding.observed - value)
    return message(
        finding.code,
        quantity=subject,
        observed=f"{precision} {format_amount(finding.observed, wanted.unit)}".strip(),
        limit=format_amount(value, wanted.unit),
        excess=f"{format_amount(excess, wanted.unit)}" + (f" ({percent(excess, value)})" if value else ""),
        note=f"; {finding.reason}" if finding.reason else "",
    )


def _how_to_decide(finding: Finding, measured: str) -> str:
    """Return what makes a run decide a limit for a device that this one did not measure."""
    kind = (finding.expectation.device or "").partition(":")[0]
    if kind == "cpu":
        return "run this test without --flop-device too"
    if kind == "sim":
        return "run this test with --flop-device=sim"
    if kind != "cuda":
        return "run this test where there is such a device"
    if measured.startswith("sim"):
        return "add predict = true to it, or a limit for 'sim'"
    return "add predict = true to it, or run this test on a GPU"


def is_lower_bound(finding: Finding, measurement: Measurement) -> bool:
    """Whether what was observed is only the known part: an op without a formula ran too, or memory is missing."""
    return _precision(finding, measurement) == "at least"


def least_sign(finding: Finding, measurement: Measurement) -> str:
    """Return what is written before an observed number that is only a lower bound."""
    return ">= " if is_lower_bound(finding, measurement) else ""


def _precision(finding: Finding, measurement: Measurement) -> Precision:
    if finding.device is not None:
        least = any(each.device == finding.device and each.is_lower_bound for each in measurement.memory)
        return "at least" if least else ""
    tally = measurement.flops
    if tally is None or not finding.expectation.quantity.endswith("flops"):
        return ""
    phase = phase_of(finding.expectation.quantity)
    precision, number = tally.reading(phase)
    # Over its limit even without the ops whose numbers are upper bounds.
    return "at least" if precision and finding.observed != number else precision


def _use(finding: Finding) -> Fraction:
    value = bound(finding)
    return Fraction(finding.observed, value) if value and finding.observed is not None else Fraction(0)


def _unknown(finding: Finding, measurement: Measurement) -> str:
    tally = measurement.flops
    names = {each.op for each in tally.unknown_ops} if tally else set()
    quantity = finding.expectation.quantity
    phase = phase_of(quantity)
    known = 0 if tally is None else tally.at_least if phase is None else tally.at_least_in(phase)
    return message(
        finding.code,
        count=f"{len(names)} op{'s' if len(names) != 1 else ''}",
        quantity=quantity_name(quantity if phase else "flops"),
        at_least=format_amount(known, finding.expectation.unit.FLOP),
    )


def _difference(finding: Finding, subject: str, observed: int, expected: int) -> str:
    unit, excess = finding.expectation.unit, abs(observed - expected)
    return message(
        finding.code,
        quantity=subject,
        observed=exact(observed, unit),
        expected=exact(expected, unit),
        excess=exact(excess, unit) + (f" ({percent(excess, expected)})" if expected else ""),
        direction="more" if observed > expected else "less",
        note=f": {finding.reason}" if finding.reason else "",
    )


def _disagreement(finding: Finding, measurement: Measurement, observed: int, expected: int) -> str:
    wanted = finding.expectation
    other = next((each.engine for each in measurement.other_tallies if each.forward == expected), str(wanted.origin))
    return message(
        finding.code,
        engine=measurement.flops.engine if measurement.flops else "this run",
        observed=exact(observed, wanted.unit),
        quantity=quantity_name(wanted.quantity),
        other=other,
        expected=exact(expected, wanted.unit),
    )
