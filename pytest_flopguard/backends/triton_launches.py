"""Triton kernels that are launched by themselves: no op call shows them, but Triton tells of each launch."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import local
from typing import Any

REASON = (
    "it was launched by itself, and no op call shows it: wrap it by torch.library.custom_op or triton_op, and register "
    "a formula for that op"
)


class TritonLaunches:
    """Calls ``note`` with the name of each kernel that is launched outside of an op call, while it is entered."""

    def __init__(self, note: Callable[[str], None]) -> None:
        self.on = False
        self._note = note
        self._here = local()
        self._chain: Any = None

    def __enter__(self) -> TritonLaunches:
        # Whoever launches kernels has imported Triton; a version without a chain of hooks tells of none.
        knobs = sys.modules.get("triton.knobs")
        self._chain = getattr(getattr(knobs, "runtime", None), "launch_enter_hook", None)
        self.on = hasattr(self._chain, "add") and hasattr(self._chain, "remove")
        if self.on:
            self._chain.add(self._launched)
        return self

    def __exit__(self, *exc: object) -> None:
        if self.on:
            self._chain.remove(self._launched)
        self.on, self._chain = False, None

    @contextmanager
    def within_op(self) -> Iterator[None]:
        """Take the launches of the block for work of the op call that runs there."""
        before = getattr(self._here, "within", False)
        self._here.within = True
        try:
            yield
        finally:
            self._here.within = before

    def _launched(self, metadata: Any) -> None:
        if not getattr(self._here, "within", False):
            known = metadata.get() if hasattr(metadata, "extras") else metadata
            self._note(str(known.get("name", "kernel")))
