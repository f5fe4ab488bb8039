"""Calls of code that was compiled before: what it computes shows no op calls, or not all of them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from types import ModuleType
from typing import Any
from unittest.mock import patch

from pytest_flopguard.backends.late_modules import LateModule
from pytest_flopguard.backends.script_graphs import unheard
from pytest_flopguard.backends.torch_api import jit
from pytest_flopguard.backends.torch_api.late import INDUCTOR_CODE

_BEFORE = "count the model before it is compiled"
INDUCTOR = f"kernels that TorchInductor compiled show no op calls: {_BEFORE}"
PACKAGE = f"a package that was compiled ahead of time shows no op calls: {_BEFORE}"
RUNTIME = f"another runtime than torch runs the model, which shows no op calls: {_BEFORE}"

# Runtimes other than torch: module, class, and the methods that run a model.
_RUNTIMES = {
    "onnxruntime.capi.onnxruntime_inference_collection": (
        ("Session", ("run", "run_async", "run_with_iobinding", "run_with_ort_values")),
    ),
    "openvino._pyopenvino": (("InferRequest", ("infer", "start_async")),),
}


class UnheardCalls:
    """While entered, calls ``note`` with name, call and reason for each call of compiled code.

    ``aside`` is entered around such a call, whose op calls, if any, are a part of what it does. ``ran`` is given the
    graph of a TorchScript program, its nodes that were not dispatched, and its inputs; ``is_cheap`` tells whether an op
    costs nothing.
    """

    def __init__(
        self,
        note: Callable[[str, str, str], None],
        aside: Callable[[], AbstractContextManager[None]],
        ran: Callable[[Any, frozenset[str], list[Any]], None],
        is_cheap: Callable[[str], bool],
    ) -> None:
        self._note = note
        self._aside = aside
        self._ran = ran
        self._is_cheap = is_cheap
        self._stack = ExitStack()
        self._graphs: dict[int, tuple[Any, frozenset[str]]] = {}  # the graph itself keeps its id its own

    def __enter__(self) -> UnheardCalls:
        self._stack = ExitStack()
        for kind in jit.PROGRAMS:
            self._wrap(kind, "__call__", self._script)
        if jit.STATIC_MODULE is not None:
            self._hide(jit.STATIC_MODULE, ("__call__", "runAsync"), "torch.jit.StaticModule", RUNTIME)
        for kind in jit.PACKAGES:
            self._hide(kind, ("run", "boxed_run", "run_const_fold"), "torch.aoti", PACKAGE)
        self._stack.enter_context(LateModule(INDUCTOR_CODE, self._inductor))
        for name in _RUNTIMES:
            self._stack.enter_context(LateModule(name, self._runtime))
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()
        self._graphs.clear()

    def _wrap(self, kind: Any, name: str, around: Callable[..., Any]) -> None:
        real = getattr(kind, name)

        @functools.wraps(real, assigned=("__doc__", "__name__"), updated=())
        def call(*args: Any, **kwargs: Any) -> Any:
            __tracebackhide__ = True
            return around(real, args, kwargs)

        self._stack.enter_context(patch.object(kind, name, call))

    def _hide(self, kind: Any, methods: tuple[str, ...], name: str, reason: str) -> None:
        for method in methods:
            if hasattr(kind, method):
                self._wrap(kind, method, functools.partial(self._hidden, name, f"{kind.__name__}.{method}", reason))

    def _hidden(self, name: str, call: str, reason: str, real: Any, args: Any, kwargs: Any) -> Any:
        self._note(name, call, reason)
        with self._aside():
            return real(*args, **kwargs)

    def _script(self, real: Any, args: Any, kwargs: Any) -> Any:
        try:
            return real(*args, **kwargs)
        finally:
            graph, nodes = self._last_graph()
            if nodes:
                self._ran(graph, nodes, _inputs(args[0], args[1:], kwargs))

    def _last_graph(self) -> tuple[Any, frozenset[str]]:
        graph = jit.last_executed()
        if graph is None:
            return None, frozenset()
        if id(graph) not in self._graphs:
            self._graphs[id(graph)] = (graph, frozenset(unheard(graph, self._is_cheap)))
        return self._graphs[id(graph)]

    def _inductor(self, module: ModuleType) -> None:
        for kind in _subclasses(module.OutputCode):
            if "__call__" in vars(kind):
                self._hide(kind, ("__call__",), "torch.inductor", INDUCTOR)

    def _runtime(self, module: ModuleType) -> None:
        for name, methods in _RUNTIMES[module.__name__]:
            self._hide(getattr(module, name), methods, module.__name__.partition(".")[0], RUNTIME)


def _inputs(program: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any]:
    """Return what a graph was called with, in its order; None for what was left to a default."""
    names = [each.name for each in program.schema.arguments]
    owner = [program.owner] if isinstance(program, jit.SCRIPT_METHOD) else []
    given = [*owner, *args]
    return [*given, *(kwargs.get(name) for name in names[len(given) :])]


def _subclasses(kind: Any) -> Iterator[Any]:
    for each in kind.__subclasses__():
        yield each
        yield from _subclasses(each)
