"""What the package brings itself, through the hooks that it offers to others."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pytest_flopguard.backends.base import CostModel, MemoryBackend, ModelTracer, Unavailable
    from pytest_flopguard.backends.select import Backends, Engine
    from pytest_flopguard.formulas.registry import Registry
    from pytest_flopguard.reporters.formats import Reporter


@pytest.hookimpl(tryfirst=True)
def pytest_flopguard_formulas(registry: Registry) -> None:
    """Register the formulas of torch's own ops."""
    from pytest_flopguard.formulas.ops import BUILT_IN

    for room in BUILT_IN:
        registry.include(room)


@pytest.hookimpl(tryfirst=True)
def pytest_flopguard_backends(backends: Backends) -> None:
    """Register the dispatch engine, the fvcore tracer, and the memory backends."""
    backends.engine("dispatch", _dispatch)
    backends.engine("fvcore", _fvcore)
    backends.memory("cpu", _live_storage)
    backends.memory("cuda", _cuda)


@pytest.hookimpl(tryfirst=True)
def pytest_flopguard_reporters(formats: MutableMapping[str, Reporter]) -> None:
    """Register the report formats."""
    from pytest_flopguard.reporters.formats import FORMATS

    formats.update(FORMATS)


# torch and fvcore are imported by the backends, so only when a session is built.


def _dispatch(costs: CostModel) -> Engine:
    from pytest_flopguard.backends.dispatch import DispatchFlops

    return DispatchFlops(costs)


def _fvcore(costs: CostModel) -> ModelTracer:
    from pytest_flopguard.backends.fvcore_trace import FvcoreTracer

    return FvcoreTracer(costs)


def _live_storage(costs: CostModel, engine: Any) -> MemoryBackend:
    from pytest_flopguard.backends.dispatch import DispatchFlops
    from pytest_flopguard.backends.live_storage import LiveStorage
    from pytest_flopguard.backends.op_watch import OpWatch

    return LiveStorage(engine.watch if isinstance(engine, DispatchFlops) else OpWatch(costs))


def _cuda(costs: CostModel, engine: Any) -> MemoryBackend | Unavailable:
    from pytest_flopguard.backends.cuda_memory import CudaMemory
    from pytest_flopguard.backends.dispatch import DispatchFlops

    return CudaMemory.create(engine.watch if isinstance(engine, DispatchFlops) else None)
