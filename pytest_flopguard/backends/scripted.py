"""Backends that replay a written-down measurement: for tests of everything that stands above a backend."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

from pytest_flopguard.backends.base import Unavailable
from pytest_flopguard.core.errors import FlopguardError
from pytest_flopguard.core.measurement import FlopTally, MemoryPeak, ParameterCount

T = TypeVar("T")


class _Script(Generic[T]):
    """Answers in the order of their regions' beginnings; ``events`` says what was asked of it, in order."""

    name = "scripted"

    def __init__(self, answers: Sequence[T]) -> None:
        self.events: list[str] = []
        self._answers = tuple(answers)
        self._begun = 0

    def __enter__(self) -> object:
        self.events.append("enter")
        return self

    def __exit__(self, *exc: object) -> None:
        self.events.append("exit")

    def begin(self) -> int:
        """Open the next region of the script; FlopguardError if there is none left."""
        if self._begun == len(self._answers):
            raise FlopguardError(f"the script has answers for {self._begun} region(s), and one more began")
        self.events.append(f"begin {self._begun}")
        self._begun += 1
        return self._begun - 1

    def end(self, mark: int) -> T:
        """Close a region and give the answer that was written down for it."""
        self.events.append(f"end {mark}")
        return self._answers[mark]


class ScriptedFlops(_Script[FlopTally]):
    """A FlopBackend that gives a tally, and with it a parameter count, to each region in turn."""

    def __init__(self, tallies: Sequence[FlopTally], parameters: Sequence[ParameterCount | None] = ()) -> None:
        super().__init__(tallies)
        self._parameters = tuple(parameters)

    def parameters(self, mark: int) -> ParameterCount | None:
        """Return the parameters that were written down for a region, None if none were."""
        return self._parameters[mark] if mark < len(self._parameters) else None

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Note that the block went by unseen."""
        self.events.append("pause")
        try:
            yield
        finally:
            self.events.append("resume")


class ScriptedMemory(_Script[tuple[MemoryPeak, ...] | Unavailable]):
    """A MemoryBackend that gives peaks, or why there are none, to each region in turn."""


class ScriptedTracer:
    """A ModelTracer that gives a tally, or why there is none, to each model in turn; ``traced`` has the calls."""

    def __init__(self, opinions: Sequence[FlopTally | Unavailable], name: str = "scripted") -> None:
        self.name = name
        self.traced: list[tuple[Any, tuple[Any, ...], dict[str, Any]]] = []
        self._opinions = tuple(opinions)

    def trace(self, model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> FlopTally | Unavailable:
        """Give the next opinion, without calling the model."""
        self.traced.append((model, args, kwargs))
        return self._opinions[len(self.traced) - 1]
