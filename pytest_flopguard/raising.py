"""How a verdict reaches pytest: a failure that is the message and nothing more, or a warning that stays one."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import pytest

from pytest_flopguard.core.errors import message
from pytest_flopguard.core.record import Record
from pytest_flopguard.core.verdict import Finding

# What an expectation leaves open for another run to decide, or a baseline has not heard of yet: told, and no warning.
_QUIET = ("device-absent", "no-baseline", "baseline-environment")


class FlopguardWarning(pytest.PytestWarning):
    """A broken budget whose severity is ``warn``, or unknown ops where the setting only warns."""


class BudgetBroken(pytest.fail.Exception):  # type: ignore[misc,name-defined]
    """The failure of a test whose budget is broken or undecided; its text is the whole message."""

    __module__ = "builtins"  # so that the short summary shows the text, as for pytest.fail


def note_as_written(item: pytest.Item, calls: int) -> None:
    """Say below a test's own failure that compiled functions ran uncompiled, and what to write where that matters."""
    if calls:
        number = f"{calls} call" if calls == 1 else f"{calls} calls"
        text = message("ran-as-written", calls=number, nodeid=item.nodeid)
        item.add_report_section("call", "flopguard", text)


def fail_or_warn(records: Sequence[Record], *, verbosity: int, accepts: bool) -> None:
    """Raise what broke, or warn of what is worth it; ``accepts`` is whether this run writes new baselines."""
    from pytest_flopguard.core.tested_releases import newer_releases
    from pytest_flopguard.reporters import failure

    broken = [each for each in records if each.outcome == "failed"]
    if broken:
        newer = tuple(newer_releases())
        texts = [failure.render(each, verbosity=verbosity, newer=newer) for each in broken]
        raise BudgetBroken("\n\n".join(texts), pytrace=False)
    for record in records:
        if any(_is_worth_a_warning(each, accepts) for each in record.findings):
            warn(failure.render(record, verbosity=-1))


def warn(text: str) -> None:
    """Warn, and never more: ``filterwarnings = error`` must not make an error of what a setting says only warns."""
    warning = FlopguardWarning(text)
    try:
        warnings.warn(warning, stacklevel=3)
    except FlopguardWarning:
        with warnings.catch_warnings():
            warnings.simplefilter("always", FlopguardWarning)
            warnings.warn(warning, stacklevel=3)


def _is_worth_a_warning(finding: Finding, accepts: bool) -> bool:
    accepted = accepts and finding.expectation.source == "baseline"
    return finding.status != "met" and finding.code not in _QUIET and not accepted
