"""This thread's stack of dispatch modes: take exactly one mode off it, and compare it before and after."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from pytest_flopguard.backends.torch_api.dispatch import mode_stack as current_modes
from pytest_flopguard.backends.torch_api.dispatch import pop_mode, push_mode

Stack = tuple[Any, ...]


def stack() -> Stack:
    """Return the modes of this thread, the one that is called first last."""
    return tuple(current_modes())


def take_off(mode: Any) -> list[Any]:
    """Take one mode off wherever it is; the modes above it stay, and are returned from top to bottom."""
    above: list[Any] = []
    while (top := pop_mode()) is not mode:
        above.append(top)
    for each in reversed(above):
        push_mode(each)
    return above


def leave(mode: Any, below: Stack) -> None:
    """Take off a mode that was pushed on top of ``below``, whatever has become of the stack since.

    A mode that was below and was left in the meantime popped the top of the stack, which was ours. Then the one that
    asked to go is still there, and goes now.
    """
    now = stack()
    if _holds(now, mode):
        take_off(mode)
    elif below and len(now) >= len(below) and now[len(below) - 1] is below[-1]:
        take_off(below[-1])


@contextmanager
def without(mode: Any) -> Iterator[None]:
    """Run the block with the stack as it would be if the mode had never been pushed."""
    if not _holds(stack(), mode):
        yield
        return
    above = len(take_off(mode))
    try:
        yield
    finally:
        again = [pop_mode() for _ in range(min(above, len(stack())))]
        for each in (mode, *reversed(again)):
            push_mode(each)


def changes(before: Stack, after: Stack) -> Sequence[tuple[str, str]]:
    """Return the name of each mode that came to stay or was taken away, with what happened to it."""
    came = [(type(each).__name__, "entered and never left") for each in after if not _holds(before, each)]
    went = [(type(each).__name__, "taken off the stack of modes") for each in before if not _holds(after, each)]
    return (*came, *went)


def _holds(modes: Stack, mode: Any) -> bool:
    # By identity: equality of a mode is whatever its class makes of it.
    return any(each is mode for each in modes)
