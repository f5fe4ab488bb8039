"""Control flow that torch keeps as one op: what it runs, where the values that decide are at hand."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from pytest_flopguard.backends.constant_tensors import has_data, tensors
from pytest_flopguard.backends.torch_api.dispatch import TorchDispatchMode

FOLLOWED = {"cond", "while_loop"}
LOST_GRADIENTS = "torch builds no backward for it while op calls are watched, and its tensors need gradients"


class NotFollowed(Exception):
    """What the op will run is not known; the text says why."""


class GradientLoss(TorchDispatchMode):
    """Notes whether calls in the block were to be differentiated: below autograd nobody does it any more."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # as OpWatch

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.found |= torch.is_grad_enabled() and any(each.requires_grad for each in tensors(args))
        return func(*args, **(kwargs or {}))


def followed(name: str, args: tuple[Any, ...]) -> Callable[[], Any]:
    """Return what calls the op's own functions as the op would; NotFollowed where that hangs on absent values."""
    return _cond(*args) if name == "cond" else _while_loop(*args)


def _cond(
    predicate: Any, if_true: Callable[..., Any], if_false: Callable[..., Any], operands: tuple[Any, ...] = ()
) -> Callable[[], Any]:
    if isinstance(predicate, torch.Tensor) and not has_data(predicate):
        raise NotFollowed("its predicate has no value here")
    return partial(if_true if predicate else if_false, *operands)


def _while_loop(
    goes_on: Callable[..., Any], step: Callable[..., Any], carried: tuple[Any, ...], fixed: tuple[Any, ...] = ()
) -> Callable[[], Any]:
    if not all(map(has_data, tensors((*carried, *fixed)))):
        raise NotFollowed("how often it loops depends on values that are not here")

    def run() -> tuple[Any, ...]:
        values = carried
        while goes_on(*values, *fixed):
            values = tuple(step(*values, *fixed))
        return values

    return run
