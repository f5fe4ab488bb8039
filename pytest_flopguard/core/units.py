"""Amounts as people write them: text to exact integers, and back.

FLOPs and parameters scale by 1000 (``GFLOP``, ``M``); bytes by 1000 (``MB``) or 1024 (``MiB``).
"""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation
from enum import Enum
from fractions import Fraction
from math import ceil, floor

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
_NAMES = {Unit.FLOP: "FLOPs", Unit.BYTE: "bytes", Unit.COUNT: "a count"}
_EXAMPLES = {
    Unit.FLOP: "'12.4 GFLOP' or 1.9e12",
    Unit.BYTE: "'310 MiB' or '2 GB'",
    Unit.COUNT: "'124 M' or 8_030_261_248",
}
_SHOWN: dict[Unit, tuple[int, tuple[str, ...]]] = {
    Unit.FLOP: (1000, ("FLOP", "kFLOP", "MFLOP", "GFLOP", "TFLOP", "PFLOP", "EFLOP", "ZFLOP", "YFLOP")),
    Unit.BYTE: (1024, ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")),
    Unit.COUNT: (1000, ("", "k", "M", "B", "T")),
}
_NUMBER = r"[+-]?[0-9]+(?:_[0-9]+)*(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?"
_GROUPED = r"[0-9]{1,3}(?:,[0-9]{3})+"
# Not compiled here: a run without amounts need not pay for it, and re keeps what it has compiled.
_AMOUNT = rf"\s*({_GROUPED}|{_NUMBER})\s*([A-Za-z][A-Za-z/ ]*)?\s*"
_PERCENT = rf"\s*({_NUMBER})\s*%\s*"
_COMMA = "a comma may mean thousands or a decimal point: write 1_234 or 1.234"
# No budget needs more; a slip such as "1e99999999" must not build a number of that many digits.
_MOST_DIGITS = 60


def _number(text: str) -> Fraction:
    try:
        number = Decimal(text)
    except InvalidOperation as error:
        raise AmountError(f"{text} has too large an exponent") from error
    if not number.is_finite():
        raise AmountError(f"{text} is not a finite number")
    if abs(number.adjusted()) > _MOST_DIGITS:
        raise AmountError(f"{text} is too large or too small for a budget")
    return Fraction(number)


def _wrong_unit(suffix: str, unit: Unit) -> str:
    compact = suffix.replace(" ", "")
    if "/" in compact or (unit is Unit.FLOP and compact.endswith("FLOPS")):
        count = compact.split("/")[0]
        count = count[:-1] if count.endswith(("FLOPS", "FLOPs")) else count
        return f"{suffix!r} is a rate; a budget is a count: write {count!r}"
    if compact.upper().endswith(("MAC", "MACS")):
        return f"{suffix!r} counts multiply-adds; 1 MAC = 2 FLOPs, so write twice the number in FLOP"
    alike = [each for each in _SCALES[unit] if each.lower() == compact.lower()]
    if alike:
        return f"{suffix!r} is no unit; did you mean {alike[0]!r}?"
    return f"{suffix!r} is no unit of {_NAMES[unit]}; write for example {_EXAMPLES[unit]}"


def _unreadable(value: object, unit: Unit) -> str:
    if isinstance(value, str) and "," in value:
        return _COMMA
    return f"cannot be read as {_NAMES[unit]}; write for example {_EXAMPLES[unit]}"


def parse_amount(value: object, unit: Unit, *, up: bool = False) -> int:
    """Turn ``"12.4 GFLOP"``, ``"310 MiB"``, ``1.9e12`` or an int into an exact integer.

    What a prefix leaves below one is cut (``"1.2 GiB"`` is 1288490188.8 bytes, and at most that is at most
    1288490188), or rounded ``up`` for the least of something.
    Raises AmountError for another unit, a rate, a negative number, or a fraction of one FLOP, byte or parameter.
    """
    suffix = ""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise AmountError(_unreadable(value, unit))
    if isinstance(value, int):
        exact = Fraction(value)
    elif isinstance(value, float):
        exact = _number(repr(value))
    else:
        match = re.fullmatch(_AMOUNT, value)
        if match is None:
            raise AmountError(_unreadable(value, unit))
        suffix = (match[2] or "").rstrip()
        if suffix and suffix not in _SCALES[unit]:
            raise AmountError(_wrong_unit(suffix, unit))
        # "1,234 GFLOP" may be 1.234 to its writer; without a prefix no such fraction can be meant.
        if "," in match[1] and _SCALES[unit].get(suffix, 1) != 1:
            raise AmountError(_COMMA)
        exact = _number(match[1].replace(",", ""))
    scale = _SCALES[unit][suffix] if suffix else 1
    exact *= scale
    if exact < 0:
        raise AmountError("an amount cannot be negative")
    if scale == 1 and exact.denominator != 1:
        raise AmountError(f"not a whole number; write for example {_EXAMPLES[unit]}")
    return ceil(exact) if up else floor(exact)


def parse_tolerance(value: object, limit: int, unit: Unit) -> int:
    """Turn ``"2%"`` (of the limit, rounded down) or an absolute amount into an integer slack."""
    if isinstance(value, str) and "%" in value:
        match = re.fullmatch(_PERCENT, value)
        if match is None:
            raise AmountError("cannot be read as a share; write for example '2%'")
        share = _number(match[1]) / 100
        if share < 0:
            raise AmountError("a tolerance cannot be negative")
        return floor(limit * share)
    if isinstance(value, float) and 0 < value < 1:
        raise AmountError(f"a share needs its sign: write '{_percent(value)}%'")
    return parse_amount(value, unit)


def _percent(share: float) -> str:
    return f"{Decimal(repr(share)) * 100:f}".rstrip("0").rstrip(".")


def format_amount(value: int, unit: Unit) -> str:
    """Render an integer for people, with at most two decimals: ``291.65 GFLOP``, ``1.2 GiB``, ``124.44 M``."""
    base, names = _SHOWN[unit]
    power, size = 0, abs(value)
    # 999.996 would print as "1000": go up one name when two decimals round there.
    while power + 1 < len(names) and Fraction(size, base**power) >= Fraction(base) - Fraction(1, 200):
        power += 1
    digits = f"{float(Fraction(value, base**power)):.2f}".rstrip("0").rstrip(".") if power else str(value)
    return f"{digits} {names[power]}".rstrip()
