"""The worst findings beside the lines where they are written."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from pytest_flopguard.core.comparison import Compared, Number
from pytest_flopguard.core.measurement import Measurement
from pytest_flopguard.core.record import Record
from pytest_flopguard.core.standing import Standing
from pytest_flopguard.core.verdict import Finding
from pytest_flopguard.reporters.github_annotations import render
from pytest_flopguard.reporters.github_entries import Entry, Leg, worst_first


def spot(entry: Entry, finding: Finding | None) -> tuple[str, int | None]:
    """Take limits to be where they say, and tests on line 1 of their file."""
    if finding is None:
        return entry.record.nodeid.partition("::")[0], 1
    return finding.expectation.origin.path, finding.expectation.origin.line


def leg(build: SimpleNamespace, *records: Record | Entry, **more: Any) -> Leg:
    entries = [each if isinstance(each, Entry) else Entry(record=each) for each in records]
    run = build.run_of(*(each.record for each in entries))
    return Leg(name="default", run=run, entries=worst_first(entries), **more)


def costing(build: SimpleNamespace, name: str, flops: int, severity: str = "error", limit: str = "10 FLOP") -> Record:
    found: Record = build.record(
        f"tests/test_a.py::{name}",
        Measurement(flops=build.tally([build.counted("aten.mm", "net", flops)])),
        build.limit("flops", limit, "pyproject.toml:7", severity=severity),
    )
    return found


def test_a_broken_limit_is_an_error_on_its_line(build: SimpleNamespace) -> None:
    # 12 of 10 FLOPs: 2 over, which is 20 %.
    assert render(leg(build, costing(build, "test_b", 12)), spot) == (
        "::error file=pyproject.toml,line=7,title=flopguard%3A OVER tests/test_a.py%3A%3Atest_b"
        "::FLOPs: 12 FLOP, over the limit of 10 FLOP by 2 FLOP (20.00%25) [over-budget]%0Alimit: pyproject.toml:7\n"
    )


def test_what_is_met_or_not_limited_says_nothing(build: SimpleNamespace) -> None:
    assert render(leg(build, costing(build, "test_b", 10), build.gpt2_forward()), spot) == ""


def test_what_only_warns_is_a_warning(build: SimpleNamespace) -> None:
    assert render(leg(build, costing(build, "test_b", 12, "warn")), spot).startswith("::warning file=pyproject.toml")


@pytest.mark.parametrize(("open_fails", "level"), [(False, "warning"), (True, "error")])
def test_what_is_undecided(build: SimpleNamespace, open_fails: bool, level: str) -> None:
    seen = Measurement(unavailable={"flops": "no engine"})
    wanted = build.limit("flops", "10 FLOP", "a.py:3", severity="warn")
    record = replace(build.record("a.py::test_b", seen, wanted), findings=())
    record = replace(record, findings=build.record("a.py::test_b", seen, wanted).findings[:1])
    text = render(leg(build, record), spot, open_fails=open_fails)
    assert text.startswith(
        f"::{level} file=a.py,line=3,title=flopguard%3A undecided a.py%3A%3Atest_b::FLOPs: not measured"
    )
    assert text.count("\n") == 1


@pytest.mark.parametrize("standing", ["skipped", "xfailed", "failed"])
def test_what_pytest_has_decided_is_not_told_again(build: SimpleNamespace, standing: Standing) -> None:
    assert render(leg(build, Entry(record=costing(build, "test_b", 12), standing=standing)), spot) == ""


def test_nine_of_the_worst_and_one_for_the_rest(build: SimpleNamespace) -> None:
    # 11, 12, ... 22 FLOPs against 10: twelve are over, the dearest is the worst.
    records = [costing(build, f"test_{flops}", flops) for flops in range(11, 23)]
    warned = costing(build, "test_warned", 1000, "warn")
    lines = render(leg(build, warned, *records), spot).splitlines()
    assert len(lines) == 10
    assert [line.partition("OVER ")[2].partition("::")[0] for line in lines[:9]] == [
        f"tests/test_a.py%3A%3Atest_{flops}" for flops in range(22, 13, -1)
    ]
    assert lines[9] == "::error title=flopguard%3A 4 more::the job's summary and the report have them all"


def test_the_rest_of_warnings_is_a_notice(build: SimpleNamespace) -> None:
    records = [costing(build, f"test_{flops}", flops, "warn") for flops in range(11, 22)]
    lines = render(leg(build, *records), spot).splitlines()
    assert [line.partition(" ")[0] for line in lines] == ["::warning"] * 9 + ["::notice"]


def risen(build: SimpleNamespace, **more: Any) -> Entry:
    numbers = (Number(quantity="flops", before=8, now=10),)
    record = costing(build, "test_b", 10)
    compared = Compared(nodeid=record.nodeid, region="", verdict="regression", numbers=numbers)
    return Entry(record=record, compared=compared, **more)


@pytest.mark.parametrize(("rises_fail", "level"), [(False, "warning"), (True, "error")])
def test_a_number_that_rose_against_the_base_is_on_the_tests_line(
    build: SimpleNamespace, rises_fail: bool, level: str
) -> None:
    # From 8 to 10 is a quarter more.
    text = render(leg(build, risen(build), has_base=True), spot, rises_fail=rises_fail)
    assert text == (
        f"::{level} file=tests/test_a.py,line=1,title=flopguard%3A regression tests/test_a.py%3A%3Atest_b"
        "::FLOPs: 8 FLOP -> 10 FLOP (+25.00%25)\n"
    )


def test_what_was_accepted_or_stands_beside_the_test_is_not_told_twice(build: SimpleNamespace) -> None:
    assert render(leg(build, risen(build, accepted="a new head"), has_base=True), spot, rises_fail=True) == ""
    assert render(leg(build, risen(build)), spot, rises_fail=True) == ""


def test_a_hostile_name_ends_no_line(build: SimpleNamespace) -> None:
    name = "test_b[\n::error::x\r##[add-mask]y,line=3::z%0A]"
    text = render(leg(build, costing(build, name, 12)), spot)
    assert len(text.splitlines()) == 1
    head = text.removeprefix("::").partition("::")[0]
    assert head.startswith("error file=pyproject.toml,line=7,title=")
    assert head.count(",") == 2
