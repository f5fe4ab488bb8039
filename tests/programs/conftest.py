"""What the tests of whole programs share: counting one region."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pytest_flopguard.backends.dispatch import DispatchFlops
from pytest_flopguard.core.measurement import FlopTally
from pytest_flopguard.formulas.registry import Registry, default_registry


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
