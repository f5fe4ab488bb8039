"""What a person wrote, while it is read."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal

from pytest_flopguard.core.errors import Problem, problem
from pytest_flopguard.core.expectation import Origin

KeyPath = tuple[str, ...]


class Draft:
    """How one place spells names (``peak-memory`` or ``peak_memory``), where its keys stand, and what is wrong there.

    ``title`` names the place itself; ``locate`` takes a path of keys below it, as spelled there.
    """

    __slots__ = ("_joiner", "_title", "locate", "problems")

    def __init__(
        self,
        title: str,
        *,
        joiner: Literal["-", "_"],
        locate: Callable[[KeyPath], Origin],
        problems: list[Problem] | None = None,
    ) -> None:
        self._title = title
        self._joiner = joiner
        self.locate = locate
        self.problems: list[Problem] = [] if problems is None else problems

    def inside(self, *path: str) -> Draft:
        """Return the draft of what stands below a path; it notes its problems here."""
        return Draft(
            ".".join(path),
            joiner=self._joiner,
            locate=lambda inner: self.locate((*path, *inner)),
            problems=self.problems,
        )

    def spelled(self, name: str) -> str:
        """Spell one of our names as this place does."""
        return name.replace("_", self._joiner)

    def known(self, key: object, names: Iterable[str]) -> str | None:
        """Return the name that a key spells, None if it spells none of them."""
        return next((name for name in names if self.spelled(name) == key), None)

    def complain(self, code: str, path: KeyPath, **values: object) -> None:
        """Note a problem at a key."""
        self.problems.append(problem(code, self.locate(path), **values))

    def complain_value(self, path: KeyPath, value: object, expected: str, hint: str = "") -> None:
        """Note that the value of a key is not what is expected there."""
        name = ".".join(path) or self._title
        self.complain("bad-value", path, name=name, value=value, expected=expected, hint=hint)
