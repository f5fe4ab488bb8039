"""Real numbers that a formula is given: seconds, rates and shares."""

from __future__ import annotations

from math import isfinite

from pytest_flopguard.core.errors import SizeError, message


def above_zero(name: str, value: object) -> float:
    """Return a finite number above 0; SizeError otherwise."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not isfinite(value) or value <= 0:
        raise SizeError(message("bad-size", name=name, value=value, rule="a number above 0"))
    return value


def share(name: str, value: object) -> float:
    """Return a number above 0 and at most 1; SizeError otherwise (40 is no share, 0.4 is)."""
    if above_zero(name, value) > 1:
        raise SizeError(message("bad-size", name=name, value=value, rule="a share above 0 and at most 1"))
    return above_zero(name, value)
