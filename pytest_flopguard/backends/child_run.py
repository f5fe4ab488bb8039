"""What a process that multiprocessing starts anew runs first. Imports nothing heavy: the process may not need torch."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from pytest_flopguard.backends.late_modules import LateModule

STARTED = "+"
_FORKED: list[int] = []


class WorkFile:
    """A file to which processes append a line for each op call that is not free, and one when they start."""

    def __init__(self, path: str) -> None:
        self._path = path

    def append(self, text: str) -> None:
        """Write a line at once: the process may end at any time."""
        file = os.open(self._path, os.O_WRONLY | os.O_APPEND)
        try:
            os.write(file, f"{text}\n".encode())
        finally:
            os.close(file)


class WatchedRun:
    """The ``run`` of a process, which reports its work. ``costs`` is a pickled CostModel."""

    def __init__(self, process: Any, path: str, costs: bytes) -> None:
        self._process, self._path, self._costs = process, path, costs

    def __call__(self) -> None:
        """Run what the process was to run."""
        vars(self._process).pop("run", None)
        if _FORKED:  # the watch came along
            self._process.run()
            return
        append = WorkFile(self._path).append
        with ExitStack() as stack:
            # Work that arrives later may import torch: a pool unpickles functions when it is given them.
            stack.enter_context(LateModule("torch", lambda _: self._watch(stack, append)))
            append(f"{STARTED}{os.getpid()}")
            self._process.run()

    def _watch(self, stack: ExitStack, append: Callable[[str], None]) -> None:
        from pytest_flopguard.backends.op_watch import OpWatch

        try:
            costs = pickle.loads(self._costs)
        except (ImportError, AttributeError):  # formulas of a conftest that this process cannot import
            append("all work of torch, whose formulas are not importable,")
            return
        watch = OpWatch(costs)
        watch.reports_to = append
        stack.enter_context(watch)


def forked() -> None:
    """Take note that this process was forked from a watched one."""
    _FORKED.append(os.getpid())
