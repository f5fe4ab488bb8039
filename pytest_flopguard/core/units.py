"""Amounts as people write them: text to exact integers, and back.

FLOPs and parameters scale by 1000 (``GFLOP``, ``M``); bytes by 1000 (``MB``) or 1024 (``MiB``).
"""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation
from enum import Enum
from fractions import Fraction

_SI = {"": 0, "k": 1, "M": 2, "G": 3, "T": 4, "P": 5, "E": 6, "Z": 7, "Y": 8}


class Unit(Enum):
    """What an integer counts."""

    FLOP = "FLOP"
    BYTE = "B"
    COUNT = ""


class AmountError(ValueError):
    """The text is no amount of the wanted unit; the message says what was expected."""


def _scales() -> dict[Unit, dict[str, int]]:
    flop = {f"{prefix}FLOP{s}": 1000**power for prefix, power in _SI.items() for s in ("", "s")}
    byte = {f"{prefix}B": 1000**power for prefix, power in _SI.items()}
    byte |= {f"{prefix.upper()}iB": 1024**power for prefix, power in _SI.items() if power}
    byte |= {"KB": 1000, "byte": 1, "bytes": 1}
    flop |= {"KFLOP": 1000, "KFLOPs": 1000}
    count = {prefix: 1000**power for prefix, power in _SI.items()} | {"K": 1000, "B": 1000**3}
    return {Unit.FLOP: flop, Unit.BYTE: byte, Unit.COUNT: count}


_SCALES = _scales()
_AMOUNT = re.compile(r"\s*([0-9][0-9_,]*(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)\s*([A-Za-z/]*)\s*")


def _wrong_unit(text: str, suffix: str, unit: Unit) -> str:
    if unit is Unit.FLOP:
        if suffix.endswith(("FLOPS", "FLOP/s", "FLOPs/s")):
            return f"{suffix!r} is a rate; a budget is a count: write {suffix.split('/')[0].rstrip('sS')}"
        if suffix.upper().endswith(("MAC", "MACS")):
            return f"{suffix!r} counts multiply-adds; 1 MAC = 2 FLOPs, so write twice the number in FLOP"
    example = {Unit.FLOP: "'12.4 GFLOP' or 1.9e12", Unit.BYTE: "'310 MiB' or '2 GB'", Unit.COUNT: "'124 M' or 8_030_261_248"}
    return f"cannot read {text!r}; write for example {example[unit]}"


def parse_amount(value: object, unit: Unit) -> int:
    """Turn ``"12.4 GFLOP"``, ``"310 MiB"``, ``1.9e12`` or an int into an exact integer.

    A fraction of a byte in a scaled amount is dropped (``"1.2 GiB"`` is 1,288,490,188 bytes). Raises AmountError
    for another unit, a rate, a negative number, or any other fraction of one.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise AmountError(_wrong_unit(str(value), "", unit))
    if isinstance(value, (int, float)):
        number, suffix = str(value), ""
    else:
        match = _AMOUNT.fullmatch(value)
        if match is None:
            raise AmountError(_wrong_unit(value, "", unit))
        number, suffix = match.group(1).replace("_", "").replace(",", ""), match.group(2)
    scales = _SCALES[unit]
    if suffix and suffix not in scales:
        raise AmountError(_wrong_unit(str(value), suffix, unit))
    try:
        exact = Fraction(Decimal(number)) * scales.get(suffix, 1)
    except (InvalidOperation, ValueError, OverflowError) as error:
        raise AmountError(_wrong_unit(str(value), suffix, unit)) from error
    # Few decimal fractions of 1024 are whole, and no allocation lies between two bytes: rounding down decides the same.
    if unit is Unit.BYTE and scales.get(suffix, 1) > 1:
        exact = Fraction(exact.numerator // exact.denominator)
    if exact < 0 or exact.denominator != 1:
        raise AmountError(f"{value!r} is not a whole, non-negative number of {unit.name.lower()}s")
    return exact.numerator


def parse_tolerance(value: object, limit: int, unit: Unit) -> int:
    """Turn ``"2%"`` (of the limit, rounded down) or an absolute amount into an integer slack."""
    if isinstance(value, str) and value.rstrip().endswith("%"):
        try:
            share = Fraction(Decimal(value.rstrip()[:-1].strip())) / 100
        except (InvalidOperation, ValueError, OverflowError) as error:
            raise AmountError(f"cannot read {value!r}; write for example '2%'") from error
        if share < 0:
            raise AmountError(f"{value!r} is negative")
        return int(limit * share)
    return parse_amount(value, unit)


def format_amount(value: int, unit: Unit) -> str:
    """Render an integer for people, at most five significant digits: ``291.65 GFLOP``, ``1.2 GiB``, ``124.44 M``."""
    if unit is Unit.BYTE:
        base, names = 1024, ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
    elif unit is Unit.FLOP:
        base, names = 1000, ("FLOP", "kFLOP", "MFLOP", "GFLOP", "TFLOP", "PFLOP", "EFLOP", "ZFLOP", "YFLOP")
    else:
        base, names = 1000, ("", "k", "M", "B", "T")
    power, size = 0, abs(value)
    # 999.996 would print as "1000": go up one name when two decimals round there.
    while power + 1 < len(names) and Fraction(size, base**power) >= Fraction(base) - Fraction(1, 200):
        power += 1
    digits = f"{float(Fraction(value, base**power)):.2f}".rstrip("0").rstrip(".") if power else str(value)
    return f"{digits} {names[power]}".rstrip()
