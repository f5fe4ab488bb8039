"""Everything that works without op calls and can be noticed: what compiled code runs, and what torch records."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from pytest_flopguard.backends.base import CostModel
from pytest_flopguard.backends.child_processes import ChildProcesses
from pytest_flopguard.backends.jit_names import kind_of
from pytest_flopguard.backends.recorders import Recorders
from pytest_flopguard.backends.subclass_calls import pushed
from pytest_flopguard.backends.traced_graph import TracedGraph
from pytest_flopguard.backends.triton_launches import REASON, TritonLaunches
from pytest_flopguard.backends.unheard_calls import UnheardCalls


class HiddenWork:
    """Counts such work for an OpWatch where its graph shows what it is, and notes it as unknown by name elsewhere."""

    def __init__(self, watch: Any, costs: CostModel) -> None:
        self._watch = watch
        self._stack = ExitStack()
        self.launches = TritonLaunches(self._launched)
        self._calls = UnheardCalls(
            self.note, watch.aside, self._ran, lambda op: kind_of(op, costs) in ("free", "uncounted")
        )
        self._recorders = Recorders(watch.aside, self._traced, self.note)
        self.children = ChildProcesses(watch, self.note)

    def __enter__(self) -> HiddenWork:
        self._stack = ExitStack()
        for each in (self.launches, self._calls, self._recorders, self.children):
            self._stack.enter_context(each)
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def note(self, name: str, call: str, reason: str) -> None:
        """Note work that no op call shows, and that makes tensors of its own."""
        if self._watch.on:
            self._watch.note_unheard(name, call, reason)
            self._lose(name)

    def _lose(self, name: str) -> None:
        if self._watch.storages is not None:
            self._watch.storages.lose(name)

    def _launched(self, name: str) -> None:
        if self._watch.on:
            self._watch.note_unheard(f"triton.{name}", f"the Triton kernel {name}", REASON)

    def _traced(self, graph: Any, module: Any) -> None:
        self._count(graph, [] if module is None else [module], None, "torch.jit.trace")

    def _ran(self, graph: Any, nodes: frozenset[str], given: list[Any]) -> None:
        self._count(graph, given, nodes, "TorchScript")

    def _count(self, graph: Any, given: list[Any], nodes: frozenset[str] | None, name: str) -> None:
        watch = self._watch
        if watch.on and watch.on_this_thread():
            with watch.aside():
                TracedGraph(graph, self._heard, watch.kind_of, watch.note_unheard, nodes).run(given)
            self._lose(name)

    @contextmanager
    def _heard(self) -> Iterator[None]:
        # Tensors without data stand for those that the program made, whose storages nothing follows.
        watch = self._watch
        storages, watch.storages = watch.storages, None
        try:
            with pushed(watch):
                yield
        finally:
            watch.storages = storages
