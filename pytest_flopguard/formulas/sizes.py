"""Sizes that a closed form is given: whole, positive, and dividing where they must."""

from __future__ import annotations

from pytest_flopguard.core.errors import SizeError, message


def whole(name: str, value: object) -> int:
    """Return a non-negative int; SizeError for a float, a bool or a negative number."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise SizeError(message("bad-size", name=name, value=value, rule="a whole number, 0 or more"))
    return value


def positive(name: str, value: object) -> int:
    """Return an int of at least 1; SizeError otherwise."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise SizeError(message("bad-size", name=name, value=value, rule="a whole number, 1 or more"))
    return value


def divided(name: str, value: object, by: str, parts: object) -> int:
    """Return ``value // parts``; SizeError where that leaves a rest."""
    number, count = positive(name, value), positive(by, parts)
    if number % count:
        raise SizeError(message("bad-size", name=name, value=number, rule=f"a multiple of {by} = {count}"))
    return number // count
