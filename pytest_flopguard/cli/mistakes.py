"""What is wrong with a command's arguments, gathered so that all of it is told at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from pytest_flopguard.core.errors import FlopguardError, Problem, UsageError, code_of, problem
from pytest_flopguard.core.units import AmountError, Unit, parse_amount
from pytest_flopguard.formulas.sizes import positive

T = TypeVar("T")
_WHERE = "command line"


class Mistakes:
    """Reads arguments and keeps what their readers refuse."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []

    def read(self, make: Callable[[], T]) -> T | None:
        """Return what an argument is read as; None, with the problem kept, where its reader refuses it."""
        try:
            return make()
        except UsageError as error:
            self.problems.extend(error.problems)
        except FlopguardError as error:
            self.problems.append(Problem(code=code_of(error)[0], text=str(error), where=_WHERE))
        return None

    def number(self, name: str, text: str | None) -> int | None:
        """Return a whole number of at least 1: ``15T``, ``1.5e13``, ``4096``; None where none is given."""
        if text is None:
            return None
        return self.read(lambda: amount(name, text))

    def expected(self, name: str, value: object, what: str) -> None:
        """Keep the problem that an argument should have been something else."""
        self.problems.append(problem("bad-value", _WHERE, name=name, value=value, expected=what, hint=""))

    def check(self) -> None:
        """Raise all problems; UsageError."""
        if self.problems:
            raise UsageError(dict.fromkeys(self.problems))


def amount(name: str, text: str, unit: Unit = Unit.COUNT) -> int:
    """Read a count or an amount of FLOPs, at least 1; UsageError or SizeError."""
    try:
        return positive(name, parse_amount(text, unit))
    except AmountError as error:
        raise UsageError([problem("bad-amount", _WHERE, name=name, value=text, reason=str(error))]) from error


def number(name: str, text: str) -> float:
    """Read a number; a share may be in percent (``40%``). UsageError for anything else."""
    try:
        return float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError as error:
        wrong = problem("bad-value", _WHERE, name=name, value=text, expected="a number", hint="")
        raise UsageError([wrong]) from error
