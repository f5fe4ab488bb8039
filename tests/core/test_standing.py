"""Whether a record's findings are the verdict on a test, or what pytest made of it."""

from __future__ import annotations

import pytest

from pytest_flopguard.core.expectation import Expectation, Origin
from pytest_flopguard.core.measurement import Measurement
from pytest_flopguard.core.record import Record, TestOutcome
from pytest_flopguard.core.standing import Standing, fails, standings
from pytest_flopguard.core.verdict import Finding

LIMIT = Expectation(quantity="flops", high=10, origin=Origin(path="pyproject.toml"))
BROKEN = Finding(expectation=LIMIT, observed=11, status="broken", code="over-budget")


def record(test: TestOutcome, *findings: Finding, complete: bool = True) -> Record:
    return Record(nodeid="a", measurement=Measurement(), findings=findings, test=test, complete=complete)


@pytest.mark.parametrize(
    ("seen", "expected", "failed"),
    [
        (record("passed"), "judged", False),
        (record("failed", BROKEN), "judged", True),
        (record("failed"), "failed", True),
        (record("failed", complete=False), "failed", True),
        (record("skipped", BROKEN), "skipped", False),
        (record("xfailed", BROKEN), "xfailed", False),
        (record("xfailed"), "xfailed", False),
    ],
)
def test_one_record(seen: Record, expected: Standing, failed: bool) -> None:
    (standing,) = standings([seen])
    assert standing == expected
    assert fails(seen, standing) is failed


def test_a_region_within_its_budget_is_judged_by_itself() -> None:
    assert standings([record("failed", BROKEN), record("failed")]) == ("judged", "judged")
