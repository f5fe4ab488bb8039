"""Bytes of state that torch's optimizers keep: moments of each parameter's size, and a step counter per tensor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from pytest_flopguard.core.errors import unknown_name
from pytest_flopguard.formulas.dtypes import dtype_bytes
from pytest_flopguard.formulas.sizes import whole

# torch keeps every counter as one float32, whatever the parameters' dtype.
COUNTER_BYTES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerState:
    """``moments`` tensors of the parameters' shape and dtype; ``counters`` scalars for each parameter tensor."""

    name: str
    moments: int
    counters: int = 0


_ROWS = (
    OptimizerState(name="sgd", moments=0),
    OptimizerState(name="sgd-momentum", moments=1),
    OptimizerState(name="adam", moments=2, counters=1),
    OptimizerState(name="adam-amsgrad", moments=3, counters=1),
    OptimizerState(name="adamw", moments=2, counters=1),
    OptimizerState(name="adamw-amsgrad", moments=3, counters=1),
    OptimizerState(name="adamax", moments=2, counters=1),
    OptimizerState(name="nadam", moments=2, counters=2),
    OptimizerState(name="radam", moments=2, counters=1),
    OptimizerState(name="adagrad", moments=1, counters=1),
    OptimizerState(name="adadelta", moments=2, counters=1),
    OptimizerState(name="rmsprop", moments=1, counters=1),
    OptimizerState(name="rmsprop-momentum", moments=2, counters=1),
    OptimizerState(name="rmsprop-centered", moments=2, counters=1),
    OptimizerState(name="rprop", moments=2, counters=1),
)
OPTIMIZERS: Mapping[str, OptimizerState] = MappingProxyType({each.name: each for each in _ROWS})


def optimizer(name: str | OptimizerState) -> OptimizerState:
    """Return an optimizer's row by name, or one of one's own as it is; UnknownNameError names the nearest."""
    if isinstance(name, OptimizerState):
        return name
    if name not in OPTIMIZERS:
        raise unknown_name("optimizer", name, OPTIMIZERS)
    return OPTIMIZERS[name]


def state_bytes(parameters: int, *, of: str | OptimizerState, dtype: str) -> int:
    """Bytes of the moments: moments * N * size, after the first step. Counters are told apart."""
    return dtype_bytes(dtype, optimizer(of).moments * whole("parameters", parameters))


def counter_bytes(tensors: int, *, of: str | OptimizerState) -> int:
    """Bytes of the counters: counters * parameter tensors * 4."""
    return optimizer(of).counters * whole("parameter tensors", tensors) * COUNTER_BYTES
