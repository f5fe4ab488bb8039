"""Stands aside while torch records a program by running it once, and counts that run from what was recorded."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from types import ModuleType
from typing import Any
from unittest.mock import patch

from pytest_flopguard.backends.late_modules import LateModule
from pytest_flopguard.backends.torch_api import jit, late

EXPORTED = "torch.export reads the program through the compiler, which shows no op calls: count the model by a call"


class Recorders:
    """While entered, ``aside`` is entered around each recording; ``traced`` is given the graph of a torch.jit.trace."""

    def __init__(
        self,
        aside: Callable[[], AbstractContextManager[None]],
        traced: Callable[[Any, Any], None],
        note: Callable[[str, str, str], None],
    ) -> None:
        self._aside = aside
        self._traced = traced
        self._note = note
        self._stack = ExitStack()

    def __enter__(self) -> Recorders:
        self._stack = ExitStack()
        for name in jit.TRACERS:
            self._wrap(jit.NATIVE, name, self._trace)
        for name in jit.METHOD_TRACERS:
            self._wrap(jit.SCRIPT_MODULE, name, self._trace)
        self._stack.enter_context(LateModule(late.EXPORT, self._export))
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def _wrap(self, owner: Any, name: str, around: Callable[..., Any]) -> None:
        real = getattr(owner, name, None)
        if real is None:
            return

        @functools.wraps(real, assigned=("__doc__", "__name__"), updated=())
        def call(*args: Any, **kwargs: Any) -> Any:
            __tracebackhide__ = True
            return around(name, real, args, kwargs)

        self._stack.enter_context(patch.object(owner, name, call))

    def _trace(self, name: str, real: Any, args: Any, kwargs: Any) -> Any:
        with self._aside():
            found = real(*args, **kwargs)
        if name in jit.METHOD_TRACERS:
            module, method = args[0], args[1]
            self._traced(jit.graph_of_method(module, method), module)
        elif name == jit.GRAPH_TRACER:
            self._traced(found[0], None)
        else:
            self._traced(found.graph, None)
        return found

    def _export(self, module: ModuleType) -> None:
        self._wrap(module, late.STRICT_EXPORT, self._strict)

    def _strict(self, name: str, real: Any, args: Any, kwargs: Any) -> Any:
        self._note("torch.export", "a model exported with strict=True", EXPORTED)
        with self._aside():
            return real(*args, **kwargs)
