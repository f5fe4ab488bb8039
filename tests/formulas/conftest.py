"""What the tests of formulas share: the cost of one written-down op call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pytest_flopguard.core.measurement import Cost, OpCall
from pytest_flopguard.core.tensors import TensorSpec
from pytest_flopguard.formulas.registry import Registry, default_registry


def as_spec(value: Any) -> Any:
    """Read tuples as float32 tensors of that shape; lists and the rest stay."""
    return TensorSpec(value) if isinstance(value, tuple) else value


@pytest.fixture(scope="session")
def registry() -> Registry:
    return default_registry()


@pytest.fixture(scope="session")
def cost(registry: Registry) -> Callable[..., Cost]:
    """Cost an op call; tuples are float32 tensors of that shape, ``out`` is what the op returns."""

    def cost(op: str, *args: Any, out: Any = None, **kwargs: Any) -> Cost:
        specs = {name: as_spec(value) for name, value in kwargs.items()}
        return registry.cost(OpCall(op=op, args=tuple(map(as_spec, args)), kwargs=specs, out=as_spec(out)))

    return cost


@pytest.fixture(scope="session")
def flops(cost: Callable[..., Cost]) -> Callable[..., int]:
    """Count an op call that has a formula, without anything that a kernel computes again."""

    def flops(op: str, *args: Any, **kwargs: Any) -> int:
        found = cost(op, *args, **kwargs)
        assert found.kind == "counted"
        assert found.kernel_recompute == 0
        assert found.flops is not None
        return found.flops

    return flops
