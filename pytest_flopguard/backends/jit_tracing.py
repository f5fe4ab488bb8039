"""torch.jit.trace records what is asked of tensors, shapes too: what we ask must not be in its graph."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pytest_flopguard.backends.torch_api.jit import set_tracing, tracing


@contextmanager
def untraced() -> Iterator[None]:
    """Ask tensors in the block without being recorded."""
    state = tracing()
    set_tracing(None)
    try:
        yield
    finally:
        set_tracing(state)
