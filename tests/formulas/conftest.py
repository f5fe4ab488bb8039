"""What the tests of formulas share: the cost of one written-down op call."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from contextlib import suppress
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


# Modules that register ops when they are imported, torchvision where it is installed.
REGISTERING = (
    "torch._higher_order_ops",
    "torch._inductor.inductor_prims",
    "torch._prims.rng_prims",
    "torch.ao.quantization.fx._decomposed",
    "torch.distributed._symmetric_memory",
    "torch.distributed.fsdp",
    "torch.distributed.tensor",
    "torch.nn.attention.varlen",
    "torch.nn.modules.linear_cross_entropy",
    "torchvision",
)


@pytest.fixture(scope="session")
def registered_ops() -> None:
    """Import whatever registers ops of torch when it is first needed."""
    for module in REGISTERING:
        with suppress(ImportError):
            importlib.import_module(module)
