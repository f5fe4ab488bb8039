"""What a tensor subclass does for an op call, seen on the tensors inside it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import torch

from pytest_flopguard.backends.torch_api.dispatch import (
    TorchDispatchMode,
    is_infrastructure,
    mode_stack,
    pop_mode,
    push_mode,
)
from pytest_flopguard.backends.torch_api.late import SHARDING_PLANNER

# Frames of this module lie between those of the user: pytest leaves them out of tracebacks.
__tracebackhide__ = True

See = Callable[..., Any]


def subclasses(types: Iterable[type]) -> tuple[type, ...]:
    """Return the classes that answer op calls themselves, other than torch's own, such as fake tensors."""
    return tuple([each for each in types if not is_infrastructure(each)])


class Inside(TorchDispatchMode):
    """Lets subclasses answer their calls, and shows ``see`` those that they make in turn; ``ops`` are their ops."""

    supports_higher_order_operators = True

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # as OpWatch

    def __init__(self, see: See) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._see = see
        self.ops: set[Any] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if subclasses(types):
            return NotImplemented
        if is_planning():
            return func(*args, **(kwargs or {}))
        out = self._see(func, types, args, kwargs)
        self.ops.add(func)
        return out

    @contextmanager
    def below(self) -> Iterator[None]:
        """Stand below all modes of this thread, so that they see the calls that they would see without this one."""
        others = [each for each in mode_stack() if not is_infrastructure(each)]
        with _popped(others), pushed(self), _pushed_again(others):
            yield


def is_planning() -> bool:
    """Whether a DTensor is deciding how to shard a call, for which it tries ops on tensors without data."""
    planner = sys.modules.get(SHARDING_PLANNER)
    if planner is None:
        return False
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:  # to the end: another watch may stand between the planner and this one
        if frame.f_code.co_filename == planner.__file__:
            return True
        frame = frame.f_back
    return False


@contextmanager
def pushed(mode: TorchDispatchMode) -> Iterator[None]:
    """Put a mode on this thread's stack without the process-wide flags that entering it sets."""
    push_mode(mode)
    try:
        yield
    finally:
        pop_mode()


@contextmanager
def _popped(modes: list[Any]) -> Iterator[None]:
    for _ in modes:
        pop_mode()
    try:
        yield
    finally:
        for mode in modes:
            push_mode(mode)


@contextmanager
def _pushed_again(modes: list[Any]) -> Iterator[None]:
    for mode in modes:
        push_mode(mode)
    try:
        yield
    finally:
        for _ in modes:
            pop_mode()


def has_tensor(value: Any) -> bool:
    """Whether a value is a tensor or a list with one."""
    if isinstance(value, (list, tuple)):
        return any(map(has_tensor, value))
    return isinstance(value, torch.Tensor)
