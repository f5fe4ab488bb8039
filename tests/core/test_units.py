"""Amounts are read exactly, or refused with a reason."""

from __future__ import annotations

from contextlib import suppress
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_flopguard.core.units import AmountError, Unit, format_amount, parse_amount, parse_tolerance

UNITS = st.sampled_from(Unit)
SCALES = {
    Unit.FLOP: {"FLOP": 1, "FLOPs": 1, "kFLOP": 10**3, "MFLOPs": 10**6, "GFLOP": 10**9, "YFLOP": 10**24},
    Unit.BYTE: {"B": 1, "bytes": 1, "kB": 10**3, "KB": 10**3, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "EiB": 2**60},
    Unit.COUNT: {"": 1, "k": 10**3, "K": 10**3, "M": 10**6, "B": 10**9, "G": 10**9, "T": 10**12},
}
UNIT_AND_SUFFIX = st.sampled_from([(unit, suffix) for unit, suffixes in SCALES.items() for suffix in suffixes])


@pytest.mark.parametrize(
    ("value", "unit", "expected"),
    [
        ("12.4 GFLOP", Unit.FLOP, 12_400_000_000),
        ("12.4GFLOPs", Unit.FLOP, 12_400_000_000),
        ("1.9e12", Unit.FLOP, 1_900_000_000_000),
        (1.9e12, Unit.FLOP, 1_900_000_000_000),
        ("5EFLOP", Unit.FLOP, 5 * 10**18),
        ("291.7 GFLOP", Unit.FLOP, 291_700_000_000),
        ("+3 kFLOP", Unit.FLOP, 3000),
        ("1_000 FLOP", Unit.FLOP, 1000),
        ("291,648,307,200 FLOP", Unit.FLOP, 291_648_307_200),
        ("291,648,307,200", Unit.FLOP, 291_648_307_200),
        (" 7 ", Unit.FLOP, 7),
        (0, Unit.FLOP, 0),
        # 310 * 1024 * 1024
        ("310 MiB", Unit.BYTE, 325_058_560),
        ("2 GB", Unit.BYTE, 2_000_000_000),
        ("310 MB", Unit.BYTE, 310_000_000),
        ("4096 bytes", Unit.BYTE, 4096),
        ("125 M", Unit.COUNT, 125_000_000),
        ("8.03 B", Unit.COUNT, 8_030_000_000),
        (8_030_261_248, Unit.COUNT, 8_030_261_248),
        (10**40, Unit.COUNT, 10**40),
    ],
)
def test_amounts_are_read_exactly(value: object, unit: Unit, expected: int) -> None:
    assert parse_amount(value, unit) == expected


def test_what_a_prefix_leaves_below_one_is_cut_or_rounded_up() -> None:
    # 1.2 * 1024**3 = 1288490188.8
    assert parse_amount("1.2 GiB", Unit.BYTE) == 1_288_490_188
    assert parse_amount("1.2 GiB", Unit.BYTE, up=True) == 1_288_490_189
    # 1.0005 * 1000 = 1000.5
    assert parse_amount("1.0005 kFLOP", Unit.FLOP) == 1000
    assert parse_amount("1.0005 kFLOP", Unit.FLOP, up=True) == 1001
    assert parse_amount("1 kFLOP", Unit.FLOP, up=True) == 1000


@pytest.mark.parametrize(
    ("value", "unit", "reason"),
    [
        ("5 GFLOPS", Unit.FLOP, "'GFLOPS' is a rate; a budget is a count: write 'GFLOP'"),
        ("5 FLOPS", Unit.FLOP, "write 'FLOP'"),
        ("5 GFLOP/s", Unit.FLOP, "'GFLOP/s' is a rate; a budget is a count: write 'GFLOP'"),
        ("5 GFLOPs/s", Unit.FLOP, "write 'GFLOP'"),
        ("5 GFLOP / sec", Unit.FLOP, "write 'GFLOP'"),
        ("5 GB/s", Unit.BYTE, "'GB/s' is a rate; a budget is a count: write 'GB'"),
        ("5 GMACs", Unit.FLOP, "1 MAC = 2 FLOPs"),
        ("5 MAC", Unit.FLOP, "write twice the number in FLOP"),
        ("5 gflop", Unit.FLOP, "did you mean 'GFLOP'?"),
        ("5 mib", Unit.BYTE, "did you mean 'MiB'?"),
        ("5 m", Unit.COUNT, "did you mean 'M'?"),
        ("5 GB", Unit.FLOP, "'GB' is no unit of FLOPs; write for example '12.4 GFLOP'"),
        ("5 GFLOP", Unit.BYTE, "'GFLOP' is no unit of bytes; write for example '310 MiB'"),
        ("5 GFLOPS", Unit.BYTE, "'GFLOPS' is no unit of bytes"),
        ("5 MiB", Unit.COUNT, "'MiB' is no unit of a count; write for example '124 M'"),
        ("12,4 GFLOP", Unit.FLOP, "a comma may mean thousands or a decimal point"),
        ("1,234 GFLOP", Unit.FLOP, "a comma may mean thousands or a decimal point"),
        ("1,23,456 FLOP", Unit.FLOP, "a comma may mean"),
        ("-5 GFLOP", Unit.FLOP, "cannot be negative"),
        (-1, Unit.FLOP, "cannot be negative"),
        (-0.5, Unit.BYTE, "cannot be negative"),
        ("0.5 FLOP", Unit.FLOP, "not a whole number"),
        ("0.5", Unit.COUNT, "not a whole number"),
        (1.5, Unit.BYTE, "not a whole number"),
        (float("nan"), Unit.FLOP, "nan is not a finite number"),
        (float("inf"), Unit.FLOP, "inf is not a finite number"),
        ("nan", Unit.FLOP, "cannot be read as FLOPs"),
        ("inf FLOP", Unit.FLOP, "cannot be read as FLOPs"),
        ("1e61 FLOP", Unit.FLOP, "too large or too small"),
        ("1e999999999 FLOP", Unit.FLOP, "too large or too small"),
        ("1e-999999999 FLOP", Unit.FLOP, "too large or too small"),
        ("1e99999999999999999999", Unit.FLOP, "too large an exponent"),
        (True, Unit.FLOP, "cannot be read as FLOPs"),
        (None, Unit.FLOP, "cannot be read as FLOPs"),
        (["5"], Unit.FLOP, "cannot be read as FLOPs"),
        ("", Unit.FLOP, "cannot be read as FLOPs"),
        ("GFLOP", Unit.FLOP, "cannot be read as FLOPs"),
        ("1_ FLOP", Unit.FLOP, "cannot be read as FLOPs"),
        ("5 GFLOP 6", Unit.FLOP, "cannot be read as FLOPs"),
    ],
)
def test_what_is_no_amount_is_refused_with_a_reason(value: object, unit: Unit, reason: str) -> None:
    with pytest.raises(AmountError) as caught:
        parse_amount(value, unit)
    assert reason in str(caught.value)


@given(st.integers(min_value=0), UNITS)
def test_integers_are_amounts_as_they_are(value: int, unit: Unit) -> None:
    assert parse_amount(value, unit) == value


@given(st.integers(min_value=0, max_value=10**50), UNIT_AND_SUFFIX)
def test_a_whole_number_is_scaled_exactly(value: int, pair: tuple[Unit, str]) -> None:
    unit, suffix = pair
    assert parse_amount(f"{value} {suffix}", unit) == value * SCALES[unit][suffix]


@given(st.decimals(min_value=0, max_value=10**6, places=5), UNIT_AND_SUFFIX)
def test_the_two_roundings_enclose_the_exact_amount(value: object, pair: tuple[Unit, str]) -> None:
    unit, suffix = pair
    text = f"{value} {suffix}"
    exact = Fraction(str(value)) * SCALES[unit][suffix]
    if SCALES[unit][suffix] == 1 and exact.denominator != 1:
        with pytest.raises(AmountError):
            parse_amount(text, unit)
        return
    low, high = parse_amount(text, unit), parse_amount(text, unit, up=True)
    assert low <= exact <= high
    assert high - low == (exact.denominator != 1)


@given(st.text() | st.text("0123456789.,_eE+-%kMGiFLOPBs/ "), UNITS)
def test_any_text_is_an_amount_or_an_amount_error(text: str, unit: Unit) -> None:
    with suppress(AmountError):
        assert parse_amount(text, unit) >= 0
    with suppress(AmountError):
        assert parse_tolerance(text, 1000, unit) >= 0


@pytest.mark.parametrize(
    ("value", "unit", "expected"),
    [
        (0, Unit.FLOP, "0 FLOP"),
        (999, Unit.FLOP, "999 FLOP"),
        (1000, Unit.FLOP, "1 kFLOP"),
        (291_648_307_200, Unit.FLOP, "291.65 GFLOP"),
        (158_140_695_838_720, Unit.FLOP, "158.14 TFLOP"),
        (999_994_999, Unit.FLOP, "999.99 MFLOP"),
        # 999.995 would round to 1000.00 of the smaller unit.
        (999_995_000, Unit.FLOP, "1 GFLOP"),
        (5 * 10**27, Unit.FLOP, "5000 YFLOP"),
        (1023, Unit.BYTE, "1023 B"),
        (1024, Unit.BYTE, "1 KiB"),
        (1_288_490_188, Unit.BYTE, "1.2 GiB"),
        # 1024**2 - 1 is 1023.999 KiB
        (1024**2 - 1, Unit.BYTE, "1 MiB"),
        (124_439_808, Unit.COUNT, "124.44 M"),
        (999, Unit.COUNT, "999"),
        (8_030_261_248, Unit.COUNT, "8.03 B"),
        (-1500, Unit.FLOP, "-1.5 kFLOP"),
    ],
)
def test_amounts_are_shown_short(value: int, unit: Unit, expected: str) -> None:
    assert format_amount(value, unit) == expected


@given(st.integers(min_value=0, max_value=10**30), UNITS)
def test_what_is_shown_reads_back_within_half_of_its_last_digit(value: int, unit: Unit) -> None:
    shown = format_amount(value, unit)
    suffix = shown.partition(" ")[2]
    scale = parse_amount(f"1 {suffix}", unit)
    # Past 15 digits of the largest unit the shown number is a float's.
    slack = Fraction(scale, 200) + Fraction(value, 10**15) + 1 if scale > 1 else 0
    assert abs(parse_amount(shown, unit) - value) <= slack


@given(st.integers(min_value=0, max_value=10**30), st.integers(min_value=0, max_value=10**30), UNITS)
def test_a_larger_amount_never_shows_as_a_smaller_one(one: int, other: int, unit: Unit) -> None:
    low, high = sorted((one, other))
    assert parse_amount(format_amount(low, unit), unit) <= parse_amount(format_amount(high, unit), unit)


@pytest.mark.parametrize(
    ("value", "limit", "unit", "expected"),
    [
        ("2%", 1000, Unit.FLOP, 20),
        (" 2.5 % ", 1000, Unit.FLOP, 25),
        ("1%", 199, Unit.FLOP, 1),
        ("0%", 10**20, Unit.FLOP, 0),
        # Exact where a float is not: 1% of 10**20 + 100 is 10**18 + 1.
        ("1%", 10**20 + 100, Unit.FLOP, 10**18 + 1),
        ("150%", 10, Unit.COUNT, 15),
        (5, 1000, Unit.FLOP, 5),
        ("1 MiB", 7, Unit.BYTE, 1_048_576),
        (0, 7, Unit.BYTE, 0),
        (0.0, 7, Unit.BYTE, 0),
    ],
)
def test_tolerances_are_a_share_or_an_amount(value: object, limit: int, unit: Unit, expected: int) -> None:
    assert parse_tolerance(value, limit, unit) == expected


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("-2%", "cannot be negative"),
        ("%", "cannot be read as a share; write for example '2%'"),
        ("two%", "cannot be read as a share"),
        ("2%%", "cannot be read as a share"),
        ("nan%", "cannot be read as a share"),
        ("1e99999999%", "too large or too small"),
        (0.02, "a share needs its sign: write '2%'"),
        (0.015, "a share needs its sign: write '1.5%'"),
        (-1, "cannot be negative"),
        (1.5, "not a whole number"),
        ("1 GFLOP", "'GFLOP' is no unit of bytes"),
        (True, "cannot be read as bytes"),
    ],
)
def test_what_is_no_tolerance_is_refused_with_a_reason(value: object, reason: str) -> None:
    with pytest.raises(AmountError) as caught:
        parse_tolerance(value, 1000, Unit.BYTE)
    assert reason in str(caught.value)
