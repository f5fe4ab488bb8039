"""The ``flopguard`` fixture: measures named regions of a test, and checks a model call."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from pytest_flopguard.budgets.tolerances import QUANTITIES
from pytest_flopguard.core.errors import FlopguardError, message, nearest
from pytest_flopguard.core.expectation import Expectation, Origin, Quantity

if TYPE_CHECKING:
    from pytest_flopguard.formulas.breakdown import Breakdown
    from pytest_flopguard.session import Region, Session

_FORM_QUANTITIES = ("flops", "forward_flops", "backward_flops", "recompute_flops")
FIXTURE = "flopguard"
MARKER = "flop_budget"

# Turns the limits of a call such as measure("forward", flops="9 GFLOP"), written at a file and line, into expectations.
ReadLimits = Callable[[dict[str, Any], Path, int], "tuple[Expectation, ...]"]
# Names a place in a test file as reports do.
Locate = Callable[[Path, int], Origin]


def asks_for_guard(item: pytest.Item) -> bool:
    """Whether a test is marked with a budget or uses the fixture."""
    return item.get_closest_marker(MARKER) is not None or FIXTURE in getattr(item, "fixturenames", ())


class FlopGuard:
    """Measures regions of one test. With the guard off, blocks run plain, and asking for a number skips the test."""

    def __init__(
        self,
        nodeid: str,
        session: Callable[[], Session] | None = None,
        read_limits: ReadLimits | None = None,
        locate: Locate | None = None,
    ) -> None:
        self.regions: list[Region] = []
        self._nodeid = nodeid
        self._session = session
        self._read_limits = read_limits
        self._locate = locate

    @property
    def device(self) -> str:
        """The device to build models on: ``"cuda"`` where there is one, else ``"cpu"``."""
        from pytest_flopguard.backends.device import default_device  # imports torch

        return default_device()

    @property
    def simulated(self) -> bool:
        """Whether the test runs on a simulated GPU, where tensors have shapes and no values to look at."""
        from pytest_flopguard.backends.device import is_simulated  # imports torch

        return is_simulated()

    def measure(
        self, label: str, *, warm_up: Callable[[], object] | None = None, **limits: Any
    ) -> AbstractContextManager[Region | Unmeasured]:
        """Measure a block; ``flops``, ``memory`` and ``parameters`` can be read after it.

        Limits are those of the ``flop_budget`` marker, and break the test at its end. ``warm_up`` is called before the
        block and not measured: what it leaves allocated was there at the start.
        """
        __tracebackhide__ = True
        if self._session is None:
            return nullcontext(Unmeasured())
        wanted = self._expectations(limits, depth=2)
        if warm_up is not None:
            self._session().warm_up(warm_up)
        return self._measured(self._session(), label, wanted)

    @contextmanager
    def _measured(self, session: Session, label: str, wanted: tuple[Expectation, ...]) -> Iterator[Region]:
        with session.measure(self._nodeid, label, wanted) as region:
            self.regions.append(region)
            yield region

    def expect(self, expected: Breakdown | int, *, quantity: Quantity = "flops") -> None:
        """Hold the innermost region that runs, or the whole test, to a number: exactly this, or the test fails.

        Of a closed form such as ``decoder(sizes, seq=128)``, flops are forward and, where backward ran, backward;
        ``quantity="forward_flops"`` and its like hold one phase. A plain number may be of any quantity.
        """
        if self._session is None or self._locate is None:
            return
        from pytest_flopguard.formulas.expected import Stated
        from pytest_flopguard.formulas.sizes import whole

        frame = sys._getframe(1)
        origin = self._locate(Path(frame.f_code.co_filename), frame.f_lineno)
        if quantity not in QUANTITIES:
            raise FlopguardError(message("unknown-quantity", name=quantity, hint=nearest(quantity, QUANTITIES)))
        if not isinstance(expected, int):
            if quantity not in _FORM_QUANTITIES:
                raise FlopguardError(f"a closed form is of {', '.join(_FORM_QUANTITIES)}, not of {quantity!r}")
            self._session().state(Stated(form=expected, quantity=quantity, origin=origin))
            return
        number = whole(f"the expected {quantity}", expected)
        self._session().state(Expectation(quantity=quantity, low=number, high=number, origin=origin, source="formula"))

    def check(
        self,
        model: Any,
        *inputs: Any,
        label: str | None = None,
        formula: str | None = None,
        warm_up: int = 0,
        **kwargs: Any,
    ) -> Region | Unmeasured:
        """Call ``model(*inputs, **kwargs)`` measured; cross-checking engines count the same call.

        With ``formula="auto"`` the count must be that of the model's closed form. Only this call can be counted by
        fvcore, which needs a module with its inputs, and sees forward only. ``warm_up`` calls come before it and are
        not measured.
        """
        __tracebackhide__ = True
        if self._session is None:
            return Unmeasured(model(*inputs, **kwargs))
        name = type(model).__name__ if label is None else label
        wanted = self._expectations({} if formula is None else {"formula": formula}, depth=2)
        for _ in range(warm_up):
            self._session().warm_up(lambda: model(*inputs, **kwargs))
        region = self._session().check(self._nodeid, model, inputs, kwargs, name, wanted)
        self.regions.append(region)
        return region

    def _expectations(self, limits: dict[str, Any], depth: int) -> tuple[Expectation, ...]:
        __tracebackhide__ = True
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
