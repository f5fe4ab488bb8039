"""What the tests of op formulas share: counting code that really runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pytest_flopguard.backends.dispatch import DispatchFlops
from pytest_flopguard.core.measurement import FlopTally
from pytest_flopguard.formulas.registry import Registry


@pytest.fixture(scope="session")
def tally(registry: Registry) -> Callable[[Callable[[], Any]], FlopTally]:
    """Run a function and count every op call of it."""

    def tally(function: Callable[[], Any]) -> FlopTally:
        with DispatchFlops(registry) as flops:
            mark = flops.begin()
            function()
            return flops.end(mark)

    return tally
