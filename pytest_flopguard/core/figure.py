"""One number of an estimate, or the reason why there is none."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A value with its unit; ``how`` is its equation or source, and where the value is None the reason.

    ``applies`` is false where the question makes no sense, as a cache does not in training; otherwise a None is a
    number that exists and is not known.
    Units: ``FLOP`` and ``B`` are exact integers, ``s`` and ``FLOP/s`` floats, ``share`` a part of 1, empty a count.
    """

    value: int | float | str | None
    unit: str = ""
    how: str = ""
    applies: bool = True


def unknown(reason: str) -> Figure:
    """Return a figure that is not known."""
    return Figure(value=None, how=reason)


def inapplicable(reason: str) -> Figure:
    """Return a figure that was not asked for, or that there is nothing of."""
    return Figure(value=None, how=reason, applies=False)
