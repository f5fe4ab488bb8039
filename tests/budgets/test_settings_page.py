"""docs/reference/settings.md lists every option, quantity, limit key and device as they are."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_flopguard.budgets.limits import DEVICES, KEYS
from pytest_flopguard.budgets.options import OPTIONS
from pytest_flopguard.budgets.tolerances import QUANTITIES
from pytest_flopguard.core.expectation import UNITS
from pytest_flopguard.core.units import Unit, parse_amount

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "settings.md"
Rows = Callable[[str], list[tuple[str, ...]]]


@pytest.fixture
def rows() -> Rows:
    """Give a function that returns the cells of the table whose first column has this title."""

    def read(title: str) -> list[tuple[str, ...]]:
        found: list[tuple[str, ...]] = []
        inside = False
        for line in PAGE.read_text(encoding="utf-8").splitlines():
            inside = line.startswith("|") if inside else line.startswith(f"| {title} |")
            if inside:
                found.append(tuple(cell.strip() for cell in line.strip("|").split("|")))
        return found[2:]

    return read


def test_every_option_is_listed_as_it_is(rows: Rows) -> None:
    assert rows("option") == [
        (
            f"`{each.name}`",
            each.values,
            f"`{json.dumps(each.default)}`",
            f"`{each.flag}`" if each.flag else "",
            each.help,
        )
        for each in OPTIONS
    ]


def test_every_quantity_is_listed_with_its_unit(rows: Rows) -> None:
    names = {Unit.FLOP: "FLOPs", Unit.BYTE: "bytes", Unit.COUNT: "a count"}
    expected = [(f"`{each.replace('_', '-')}`", names[UNITS[each]]) for each in QUANTITIES]
    assert [row[:2] for row in rows("key") if len(row) == 3 and row[1] in names.values()] == expected


def test_every_key_of_a_limit_is_listed(rows: Rows) -> None:
    listed = [row[0] for row in rows("key")]
    assert listed[-len(KEYS) :] == [f"`{each.replace('_', '-')}`" for each in KEYS]


def test_every_device_is_listed(rows: Rows) -> None:
    keys = [key.strip("` ") for row in rows("device key") for key in row[0].split(",")]
    assert list(dict.fromkeys(key.partition(":")[0] for key in keys)) == list(DEVICES)


def test_the_listed_prefixes_and_examples_are_read(rows: Rows) -> None:
    units = {"FLOPs": Unit.FLOP, "bytes": Unit.BYTE, "counts": Unit.COUNT}
    for name, prefixes, examples in rows("of"):
        suffixes = [word for part in prefixes.split("`")[1::2] for word in part.split()]
        assert suffixes
        for suffix in suffixes:
            assert parse_amount(f"1 {suffix}{'FLOP' if name == 'FLOPs' else ''}", units[name]) >= 1000
        for example in examples.split("`")[1::2]:
            assert parse_amount(example.strip('"'), units[name]) > 0
