"""What the tests of backends share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from torch import nn

from pytest_flopguard.backends.dispatch import DispatchFlops
from pytest_flopguard.backends.fvcore_trace import FvcoreTracer
from pytest_flopguard.core.measurement import FlopTally
from pytest_flopguard.formulas.registry import Registry, default_registry


class Calls(nn.Module):
    """A module that calls a function."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)


@pytest.fixture
def costs() -> Registry:
    return default_registry()


@pytest.fixture
def count(costs: Registry) -> Callable[[Callable[[], Any]], FlopTally]:
    """Count all that a function does in one region of the dispatch engine."""

    def count(function: Callable[[], Any]) -> FlopTally:
        with DispatchFlops(costs) as engine:
            mark = engine.begin()
            function()
            return engine.end(mark)

    return count


@pytest.fixture
def trace(costs: Registry) -> Callable[..., FlopTally]:
    """Trace a module or function; fails where it is Unavailable."""

    def trace(model: Any, *args: Any, **kwargs: Any) -> FlopTally:
        model = model if isinstance(model, nn.Module) else Calls(model)
        tally = FvcoreTracer(costs).trace(model, args, kwargs)
        assert isinstance(tally, FlopTally), tally
        return tally

    return trace
