"""Numbers as the reporters write them: exact, as a share, and as a limit that a person can paste."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction
from math import ceil, floor

from pytest_flopguard.core.expectation import Quantity
from pytest_flopguard.core.measurement import MemoryPeak
from pytest_flopguard.core.units import Unit, format_amount, parse_amount

_STEP = Decimal("0.01")


def quantity_name(quantity: Quantity) -> str:
    """Return a quantity in words: ``forward FLOPs``, ``peak memory``."""
    return quantity.replace("_", " ").replace("flops", "FLOPs")


def peak_text(peak: MemoryPeak) -> str:
    """Render a peak: ``2.01 GiB``, and ``>= 2.01 GiB`` where memory is known to be missing in it."""
    return least(peak) + format_amount(peak.peak_bytes, Unit.BYTE)


def least(peak: MemoryPeak) -> str:
    """Return what stands before the bytes of a peak: ``>= `` for a lower bound."""
    return ">= " if peak.is_lower_bound else ""


def exact(value: int, unit: Unit) -> str:
    """Render every digit: ``291,648,307,200 FLOP``, ``1,288,490,188 B``."""
    return f"{value:,} {unit.value}".rstrip()


def signed_amount(value: int, unit: Unit) -> str:
    """Render a difference with its sign: ``+2.1 MFLOP``."""
    return ("+" if value >= 0 else "-") + format_amount(abs(value), unit)


def short(value: int, unit: Unit) -> str:
    """Render three significant digits, or the whole number where it has more: ``292 GFLOP``, ``1.12 GiB``, ``0``."""
    number, _, name = format_amount(value, unit).partition(" ")
    if "." not in number:
        return format_amount(value, unit)
    scale = parse_amount(f"1 {name}", unit)
    digits = max(0, 2 - len(number.lstrip("-").partition(".")[0]) + 1)
    # Once more through the whole number, so that 999.6 k becomes 1 M.
    return format_amount(round(round(Fraction(value, scale), digits) * scale), unit)


def used(observed: int, limit: int) -> str:
    """Render how much of a limit is used, to a tenth of a percent.

    Rounded away from 100%, so that only an exactly used-up limit reads ``100.0%``; ``-`` for a limit of 0.
    """
    if limit == 0:
        return "-"
    tenths = Fraction(observed * 1000, limit)
    rounded = ceil(tenths) if observed > limit else floor(tenths)
    return f"{rounded // 10:,}.{rounded % 10}%"


def percent(part: int, whole: int) -> str:
    """Render a part of a whole in percent to two decimals; what is there never reads as nothing."""
    if whole == 0:
        return "-"
    share = Fraction(part * 100, whole)
    if 0 < share < Fraction(1, 200):
        return "<0.01%"
    return f"{float(share):,.2f}%"


def rounded_up(value: int, unit: Unit) -> str:
    """Return the shortest readable amount that ``parse_amount`` reads back as at least the value."""
    return next(text for text in _candidates(value, unit, _STEP) if parse_amount(text, unit) >= value)


def rounded_down(value: int, unit: Unit) -> str:
    """Return the shortest readable amount that ``parse_amount``, rounding up, reads back as at most the value."""
    return next(text for text in _candidates(value, unit, -_STEP) if parse_amount(text, unit, up=True) <= value)


def _candidates(value: int, unit: Unit, step: Decimal) -> Iterator[str]:
    text = format_amount(value, unit)
    yield text
    number, _, name = text.partition(" ")
    yield f"{Decimal(number) + step} {name}"
    # Past the digits of a float one step does not reach; the number itself always does.
    yield f"{value} {unit.value}".rstrip()
