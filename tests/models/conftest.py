"""Where a model stands while it is counted, and the counting."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
import torch
from torch import nn
from torch._subclasses import FakeTensorMode

from pytest_flopguard.backends.dispatch import DispatchFlops
from pytest_flopguard.backends.fvcore_trace import FvcoreTracer
from pytest_flopguard.core.measurement import FlopTally
from pytest_flopguard.formulas.registry import Registry, default_registry

Build = Callable[[], nn.Module]


@pytest.fixture
def costs() -> Registry:
    return default_registry()


@contextmanager
def _placed(place: str, build: Build) -> Iterator[nn.Module]:
    with torch.device("meta" if place == "fake" else place):
        model = build()
    if place != "fake":
        with torch.device(place):
            yield model
        return
    # Built on meta first, since torch draws some weights by reading values, which fake tensors have not.
    with FakeTensorMode(allow_non_fake_inputs=True):
        model.to_empty(device="cpu")
        if hasattr(model, "tie_weights"):
            model.tie_weights()
        yield model


@pytest.fixture
def placed() -> Callable[[str, Build], AbstractContextManager[nn.Module]]:
    """Build a model on ``"cpu"``, ``"meta"`` or ``"fake"`` tensors; tensors made in the block are of that sort too."""
    return _placed


@pytest.fixture
def count(costs: Registry) -> Callable[..., tuple[FlopTally, int]]:
    """Run a model forward (and backward), and return its FLOPs and parameters."""

    def count(model: nn.Module, *args: Any, backward: bool = True, **kwargs: Any) -> tuple[FlopTally, int]:
        with DispatchFlops(costs) as engine:
            mark = engine.begin()
            out = model(*args, **kwargs)
            if backward:
                tensors = [out] if isinstance(out, torch.Tensor) else list(out.values())
                torch.stack([each.sum() for each in tensors]).sum().backward()
            tally, parameters = engine.end(mark), engine.parameters(mark)
        assert tally.unknown_ops == ()
        assert parameters is not None
        return tally, parameters.count

    return count


@pytest.fixture
def traced(costs: Registry) -> Callable[..., int | None]:
    """Return the forward FLOPs that fvcore counts."""

    def traced(model: nn.Module, *args: Any, **kwargs: Any) -> int | None:
        tally = FvcoreTracer(costs).trace(model, args, kwargs)
        assert isinstance(tally, FlopTally), tally
        assert tally.unknown_ops == ()
        return tally.total

    return traced
