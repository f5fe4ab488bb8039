"""What a record says once it is known what pytest made of its test."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pytest_flopguard.core.record import Record

Standing = Literal["judged", "failed", "skipped", "xfailed"]


def standings(records: Sequence[Record]) -> tuple[Standing, ...]:
    """Tell for each record of a run whether its findings are the verdict, or pytest's own word on the test is.

    ``failed`` is a test that failed, and not by this record's findings; ``skipped`` and ``xfailed`` excuse what broke.
    Regions within their budget stay ``judged`` where another region of the test broke.
    """
    broken = {each.nodeid for each in records if each.outcome == "failed"}
    return tuple(_standing(each, by_budget=each.complete and each.nodeid in broken) for each in records)


def fails(record: Record, standing: Standing) -> bool:
    """Whether a record is one of a test that failed."""
    return standing == "failed" or (standing == "judged" and record.outcome == "failed")


def _standing(record: Record, *, by_budget: bool) -> Standing:
    breaks = record.outcome == "failed"
    if record.test == "skipped":
        return "skipped"
    if record.test == "xfailed" and (breaks or not by_budget):
        return "xfailed"
    if record.test == "failed" and not breaks and not by_budget:
        return "failed"
    return "judged"
