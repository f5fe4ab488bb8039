"""The ``flopguard`` fixture: measures named regions of a test, and checks a model call."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

if TYPE_CHECKING:
    from pytest_flopguard.core.expectation import Expectation
    from pytest_flopguard.session import Region, Session

FIXTURE = "flopguard"
MARKER = "flop_budget"

# Turns the limits of a call such as measure("forward", flops="9 GFLOP"), written at a file and line, into expectations.
ReadLimits = Callable[[dict[str, Any], Path, int], "tuple[Expectation, ...]"]


def asks_for_guard(item: pytest.Item) -> bool:
    """Whether a test is marked with a budget or uses the fixture."""
    return item.get_closest_marker(MARKER) is not None or FIXTURE in getattr(item, "fixturenames", ())


class FlopGuard:
    """Measures regions of one test. With the guard off, blocks run plain, and asking for a number skips the test."""

    def __init__(
        self, nodeid: str, session: Callable[[], Session] | None = None, read_limits: ReadLimits | None = None
    ) -> None:
        self.regions: list[Region] = []
        self._nodeid = nodeid
        self._session = session
        self._read_limits = read_limits

    @property
    def device(self) -> str:
        """The device to build models on: ``"cuda"`` where there is one, else ``"cpu"``."""
        from pytest_flopguard.backends.device import default_device  # imports torch

        return default_device()

    @contextmanager
    def measure(self, label: str, **limits: Any) -> Iterator[Region | Unmeasured]:
        """Measure a block; ``flops``, ``memory`` and ``parameters`` can be read after it.

        Limits are those of the ``flop_budget`` marker, and break the test at its end.
        """
        if self._session is None:
            yield Unmeasured()
            return
        with self._session().measure(self._nodeid, label, self._expectations(limits, depth=3)) as region:
            self.regions.append(region)
            yield region

    def check(self, model: Any, *inputs: Any, label: str | None = None, **kwargs: Any) -> Region | Unmeasured:
        """Call ``model(*inputs, **kwargs)`` measured; cross-checking engines count the same call.

        Only this call can be counted by fvcore, which needs a module with its inputs, and sees forward only.
        """
        if self._session is None:
            return Unmeasured(model(*inputs, **kwargs))
        name = type(model).__name__ if label is None else label
        region = self._session().check(self._nodeid, model, inputs, kwargs, name)
        self.regions.append(region)
        return region

    def _expectations(self, limits: dict[str, Any], depth: int) -> tuple[Expectation, ...]:
        if not limits or self._read_limits is None:
            return ()
        frame = sys._getframe(depth)
        return self._read_limits(limits, Path(frame.f_code.co_filename), frame.f_lineno)


class Unmeasured:
    """Stands for a region with the guard off: no numbers, so whoever asks for one is skipped."""

    def __init__(self, output: Any = None) -> None:
        self.output = output

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        pytest.skip(f"flopguard is off, so there is no {name!r} to read: run pytest with --flop-budget")
