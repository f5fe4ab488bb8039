"""Programs whose FLOPs are known by hand. Each truth is arithmetic that stands above the program."""

from __future__ import annotations

from cases import attention, convolutions, models, products, programs, recurrent
from cases.case import Case, cases_of

ROOMS = (products, convolutions, attention, recurrent, programs, models)
CASES: tuple[Case, ...] = tuple(each for room in ROOMS for each in cases_of(room))

__all__ = ["CASES", "Case"]
