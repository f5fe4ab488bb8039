"""torch.jit.trace records what is asked of tensors, shapes too: what we ask must not be in its graph."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

_resume: Callable[[Any], None] = torch._C._set_tracing_state  # type: ignore[attr-defined]
tracing: Callable[[], Any] = torch._C._get_tracing_state  # None where nothing is traced


@contextmanager
def untraced() -> Iterator[None]:
    """Ask tensors in the block without being recorded."""
    state = tracing()
    _resume(None)
    try:
        yield
    finally:
        _resume(state)
