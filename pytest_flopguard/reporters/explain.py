"""Why a test has the limits that it has: for each quantity the budget that holds, and those that do not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from pytest_flopguard.core.baseline import Baseline
from pytest_flopguard.core.expectation import UNITS, Expectation, Origin, Quantity
from pytest_flopguard.core.units import format_amount
from pytest_flopguard.reporters.amounts import quantity_name


class Budget(Protocol):
    """Limits that were written together: where, and for which tests."""

    @property
    def pattern(self) -> str:
        """The node id or glob; the marker's name for a marker."""

    @property
    def rank(self) -> str:
        """``marker``, ``exact``, ``glob`` or ``default``."""

    @property
    def origin(self) -> Origin:
        """Where it is written."""


class Loser(Protocol):
    """A budget that covers the test and does not hold."""

    @property
    def budget(self) -> Budget:
        """The budget."""

    @property
    def expectations(self) -> Sequence[Expectation]:
        """Its limits for the quantity."""

    @property
    def reason(self) -> str:
        """Why another comes before it."""


class Choice(Protocol):
    """What was chosen for one quantity."""

    @property
    def quantity(self) -> Quantity:
        """The quantity."""

    @property
    def winner(self) -> Budget:
        """The budget that holds."""

    @property
    def expectations(self) -> Sequence[Expectation]:
        """Its limits for the quantity."""

    @property
    def losers(self) -> Sequence[Loser]:
        """The budgets that do not hold, closest first."""


class Resolution(Protocol):
    """Everything that budgets say of one test."""

    @property
    def nodeid(self) -> str:
        """The test."""

    @property
    def choices(self) -> Sequence[Choice]:
        """One choice for each quantity that some budget limits."""

    @property
    def measure(self) -> str:
        """``off`` for a test that is not measured."""

    @property
    def measure_origin(self) -> Origin | None:
        """Where that is written."""


_RANKS = {"marker": "marker", "exact": "node id", "glob": "glob", "default": "default"}


# The region (empty for the whole test), where the entry is written, and its numbers.
AcceptedEntry = tuple[str, Origin, Baseline]


def render(
    resolution: Resolution, accepted: Sequence[AcceptedEntry] = (), *, measured: bool = True, strict: bool = False
) -> str:
    """Render which budget holds for each quantity of a test, where it is written, and what lost to it and why.

    ``accepted`` are the test's entries in the baseline file. ``measured`` is whether the run measures this test,
    and ``strict`` whether a test without a baseline fails.
    """
    lines = [resolution.nodeid]
    if resolution.measure_origin is not None:
        lines.append('  measure = "off": it runs as it would without the guard')
        lines.append(f"    {resolution.measure_origin}  {resolution.measure_origin.text}".rstrip())
        return "\n".join(lines)
    if not measured:
        lines.append('  not measured: with measure = "guarded" only tests with a budget, the marker or the fixture are')
        return "\n".join(lines)
    if not resolution.choices and not accepted:
        outcome = "it fails if it uses torch, because strict is on" if strict else "it is measured and passes"
        lines.append(f"  no budget and no baseline: {outcome}")
    for choice in resolution.choices:
        lines.append(f"  {quantity_name(choice.quantity)}")
        for each in choice.expectations:
            lines.append(f"    holds  {limit_words(each)}")
            lines.extend(_written(each, choice.winner))
        for loser in choice.losers:
            for each in loser.expectations:
                lines.append(f"    loses  {limit_words(each)}: {loser.reason}")
                lines.extend(_written(each, loser.budget))
    for region, origin, baseline in accepted:
        lines.append(f"  baseline of region {region}" if region else "  baseline")
        lines.extend(_accepted(baseline))
        lines.append(f"           {origin}")
    return "\n".join(lines)


def limit_words(expectation: Expectation) -> str:
    """Tell an interval in words: ``at most 1.2 GiB on cpu, warns``."""
    if expectation.derive:
        return "exactly the closed form of the models that run" + (", warns" if expectation.severity == "warn" else "")
    low, high, unit = expectation.low, expectation.high, expectation.unit
    ends = [f"{word} {format_amount(value, unit)}" for word, value in _ends(low, high) if value is not None]
    device = f" on {expectation.device}" if expectation.device else ""
    return " and ".join(ends) + device + (", warns" if expectation.severity == "warn" else "")


def _accepted(baseline: Baseline) -> Iterator[str]:
    for name, value in baseline.numbers().items():
        quantity, device = next((each, name[len(each) + 1 :]) for each in UNITS if name.split(" ", 1)[0] == each)
        where = f" on {device}" if device else ""
        yield f"    accepted  {quantity_name(quantity)}{where}: {format_amount(value, UNITS[quantity])}"
    if baseline.muted_until is not None:
        yield f"    muted until {baseline.muted_until}: {baseline.muted_reason}"


def _ends(low: int | None, high: int | None) -> tuple[tuple[str, int | None], ...]:
    return (("exactly", low),) if low == high else (("at least", low), ("at most", high))


def _written(expectation: Expectation, budget: Budget) -> Iterator[str]:
    yield f"           {_RANKS.get(budget.rank, budget.rank)} {budget.pattern}"
    yield f"           {expectation.origin}  {expectation.origin.text}".rstrip()
