"""What tests of architectures share: small models to import as ``zoo``, counting them, and laws of closed forms."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest
import torch

from pytest_flopguard.backends.dispatch import DispatchFlops
from pytest_flopguard.core.tensors import TensorSpec
from pytest_flopguard.formulas.breakdown import Breakdown
from pytest_flopguard.formulas.ops import fft
from pytest_flopguard.formulas.registry import Registry, default_registry

# The zoo stands beside the tests, which are no packages: only its name is made known, not the whole folder of tests.
_ZOO = ModuleType("zoo")
_ZOO.__path__ = [str(Path(__file__).parents[2] / "zoo")]
sys.modules.setdefault("zoo", _ZOO)


class Run(NamedTuple):
    """FLOPs of one run of a module."""

    forward: int
    backward: int


@pytest.fixture(scope="session")
def costs() -> Registry:
    return default_registry()


@pytest.fixture
def measured(costs: Registry) -> Callable[..., Run]:
    """Run a module on its inputs, forward and backward of the sum of its output, under the real counter."""

    def measured(module: Callable[..., Any], *inputs: Any, backward: bool = True, **kwargs: Any) -> Run:
        with DispatchFlops(costs) as engine:
            mark = engine.begin()
            out = module(*inputs, **kwargs)
            out = out if isinstance(out, torch.Tensor) else out[0]
            if backward:
                out.sum().backward()
            tally = engine.end(mark)
        assert tally.unknown_ops == ()
        assert (tally.recompute, tally.optimizer) == (0, 0)
        assert tally.forward is not None
        assert tally.backward is not None
        return Run(tally.forward, tally.backward)

    return measured


@pytest.fixture
def tokens() -> Callable[..., torch.Tensor]:
    """Hidden states [batch, length, width] that ask for a gradient, as in any layer but the first."""

    def tokens(batch: int, length: int, width: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(0)
        return torch.randn(batch, length, width, generator=generator).requires_grad_()

    return tokens


def _slope(lengths: Sequence[int], counts: Sequence[int]) -> float:
    """Return the least-squares slope of log(count) over log(length)."""
    xs, ys = [math.log(each) for each in lengths], [math.log(each) for each in counts]
    x_mean, y_mean = sum(xs) / len(xs), sum(ys) / len(ys)
    return sum((x - x_mean) * (y - y_mean) for x, y in zip(xs, ys, strict=True)) / sum((x - x_mean) ** 2 for x in xs)


@pytest.fixture(scope="session")
def slope() -> Callable[[Sequence[int], Sequence[int]], float]:
    """Fit the exponent with which counts grow."""
    return _slope


def _rfft(points: int) -> int:
    return fft.real_transform(TensorSpec((points,)), (0,))


def _cfft(points: int) -> int:
    return fft.complex_transform(TensorSpec((points,)), (0,))


@pytest.fixture(scope="session")
def equations_hold() -> Callable[[Breakdown], None]:
    """Hold every term to its own equation, read as arithmetic on the breakdown's symbols."""

    def equations_hold(breakdown: Breakdown) -> None:
        assert breakdown.source
        for term in breakdown:
            names = {"rfft": _rfft, "cfft": _cfft, **breakdown.symbols}
            assert eval(term.equation, {"__builtins__": {}}, names) == term.each, term

    return equations_hold
