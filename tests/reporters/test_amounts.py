"""Numbers: exact, as a share that never flatters, and as limits that pass."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_flopguard.core.expectation import UNITS
from pytest_flopguard.core.units import Unit, parse_amount
from pytest_flopguard.reporters.amounts import exact, percent, quantity_name, rounded_down, rounded_up, short, used

UNIT = st.sampled_from(Unit)
AMOUNT = st.integers(min_value=0, max_value=10**30)


def test_exact_shows_every_digit() -> None:
    assert exact(291_648_307_200, Unit.FLOP) == "291,648,307,200 FLOP"
    assert exact(2**70, Unit.BYTE) == "1,180,591,620,717,411,303,424 B"
    assert exact(124_439_808, Unit.COUNT) == "124,439,808"


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0, Unit.FLOP, "0 FLOP"),
        (999, Unit.BYTE, "999 B"),
        (1004, Unit.FLOP, "1 kFLOP"),
        (9_994, Unit.FLOP, "9.99 kFLOP"),
        (9_996, Unit.FLOP, "10 kFLOP"),
        (99_960, Unit.FLOP, "100 kFLOP"),
        (291_648_307_200, Unit.FLOP, "292 GFLOP"),
        # 999.6 k has four digits before it is rounded, and is the next unit after.
        (999_499, Unit.FLOP, "999 kFLOP"),
        (999_500, Unit.FLOP, "1 MFLOP"),
        (782_265_344, Unit.BYTE, "746 MiB"),
        # 1,023 KiB is a whole number of its unit; nobody wants it as 0.999 MiB.
        (1023 * 1024 + 100, Unit.BYTE, "1023 KiB"),
        (1024 * 1024 - 1, Unit.BYTE, "1 MiB"),
        (124_439_808, Unit.COUNT, "124 M"),
    ],
)
def test_short_has_three_significant_digits(value: int, unit: Unit, text: str) -> None:
    assert short(value, unit) == text


@given(value=AMOUNT, unit=UNIT)
def test_short_is_within_half_of_its_last_digit(value: int, unit: Unit) -> None:
    # Half of the third digit is at most 1 in 200 of the number.
    shown = parse_amount(short(value, unit), unit, up=True)
    assert abs(shown - value) * 200 <= value + 200


@pytest.mark.parametrize(
    ("observed", "limit", "text"),
    [
        (100, 100, "100.0%"),
        # One above a large limit is 100.0000000003 %: over, so it reads more than 100 %.
        (291_648_307_201, 291_648_307_200, "100.1%"),
        (291_648_307_199, 291_648_307_200, "99.9%"),
        (0, 5, "0.0%"),
        (5, 1, "500.0%"),
        (12_345_000, 1, "1,234,500,000.0%"),
        (0, 0, "-"),
        (3, 0, "-"),
    ],
)
def test_used_rounds_away_from_a_full_limit(observed: int, limit: int, text: str) -> None:
    assert used(observed, limit) == text


@given(observed=AMOUNT, limit=st.integers(min_value=1, max_value=10**30))
def test_only_a_used_up_limit_reads_100_percent(observed: int, limit: int) -> None:
    shown = float(used(observed, limit).rstrip("%").replace(",", ""))
    assert (shown == 100) == (observed == limit)
    assert (shown > 100) == (observed > limit)


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [
        (3_296_614_400, 580_000_000_000, "0.57%"),
        (1, 291_648_307_200, "<0.01%"),
        # 1/20000 = 0.005 % is where rounding to two decimals begins to see it.
        (1, 20_000, "0.01%"),
        (0, 10, "0.00%"),
        (1, 1, "100.00%"),
        (2500, 1, "250,000.00%"),
        (1, 0, "-"),
    ],
)
def test_percent(part: int, whole: int, text: str) -> None:
    assert percent(part, whole) == text


@pytest.mark.parametrize(
    ("value", "unit", "up", "down"),
    [
        (291_648_307_200, Unit.FLOP, "291.65 GFLOP", "291.64 GFLOP"),
        (583_296_614_400, Unit.FLOP, "583.3 GFLOP", "583.29 GFLOP"),
        # 16,361,000,000 rounds to 16.36, which is less: one step up.
        (16_361_000_000, Unit.FLOP, "16.37 GFLOP", "16.36 GFLOP"),
        (2_000_000, Unit.FLOP, "2 MFLOP", "2 MFLOP"),
        (999, Unit.FLOP, "999 FLOP", "999 FLOP"),
        (0, Unit.FLOP, "0 FLOP", "0 FLOP"),
        (1288490188, Unit.BYTE, "1.2 GiB", "1.19 GiB"),
        (124_439_808, Unit.COUNT, "124.44 M", "124.43 M"),
        (7, Unit.COUNT, "7", "7"),
    ],
)
def test_limits_that_just_pass(value: int, unit: Unit, up: str, down: str) -> None:
    assert rounded_up(value, unit) == up
    assert rounded_down(value, unit) == down


@given(value=AMOUNT, unit=UNIT)
def test_a_raised_limit_passes_and_a_lowered_one_too(value: int, unit: Unit) -> None:
    # The judge's own comparison: an upper limit is read rounded down, a lower one rounded up.
    assert parse_amount(rounded_up(value, unit), unit) >= value
    assert parse_amount(rounded_down(value, unit), unit, up=True) <= value


@given(value=st.integers(min_value=1, max_value=10**21), unit=st.sampled_from([Unit.FLOP, Unit.BYTE]))
def test_a_raised_limit_is_close(value: int, unit: Unit) -> None:
    # Two decimals of at least 1: a step of 0.01 is at most 1 %.
    assert parse_amount(rounded_up(value, unit), unit) * 100 <= value * 101 + 100


def test_every_quantity_has_a_name_in_words() -> None:
    names = [quantity_name(each) for each in UNITS]
    assert names[:2] == ["FLOPs", "forward FLOPs"]
    assert len(set(names)) == len(names)
    assert not any("_" in name for name in names)
