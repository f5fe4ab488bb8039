"""The dispatch engine: the FLOPs of the op calls that an OpWatch sees, region by region."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from pytest_flopguard.backends import cuda_graphs, mode_stack
from pytest_flopguard.backends.base import CostModel
from pytest_flopguard.backends.known_op import KnownOp
from pytest_flopguard.backends.model_calls import ModelCalls
from pytest_flopguard.backends.modules import ModulesMark
from pytest_flopguard.backends.op_sums import Place, Unseen
from pytest_flopguard.backends.op_watch import OpWatch
from pytest_flopguard.backends.traffic import Traffic, TrafficMark
from pytest_flopguard.core.measurement import FlopTally, Kind, OpCount, ParameterCount, UnknownOp
from pytest_flopguard.core.model_call import ModelCall
from pytest_flopguard.core.traffic import ByteTally
from pytest_flopguard.core.workload import Workload


class _Mark(NamedTuple):
    """The counters at the start of a region."""

    sums: dict[Place, tuple[int, int, int, int]]
    plain: dict[KnownOp, int]
    unknown: dict[Unseen, int]
    modules: ModulesMark
    unseen_calls: int
    traffic: TrafficMark | None
    modes: mode_stack.Stack


class DispatchFlops:
    """The FlopBackend over an OpWatch. The causal convention follows masks, which takes time."""

    name = "dispatch"

    def __init__(self, costs: CostModel) -> None:
        self.watch = OpWatch(costs)
        if costs.attention == "causal":
            self.watch.follow_masks()

    def __enter__(self) -> DispatchFlops:
        self.watch.__enter__()
        return self

    def __exit__(self, *exc: Any) -> None:
        self.watch.__exit__(*exc)

    def follow_bytes(self) -> None:
        """From now on tell the bytes that op calls move; each call then takes longer."""
        self.watch.traffic = Traffic()

    def compile_for_real(self, wanted: bool) -> None:
        """Say whether compiled functions run compiled from the next entry on, unknown by name, or as written."""
        self.watch.compiled.eager = not wanted

    @property
    def ran_as_written(self) -> int:
        """How many calls of compiled functions ran as written since the entry."""
        return self.watch.ran_as_written

    def begin(self) -> _Mark:
        """Open a region."""
        watch = self.watch
        watch.hidden.children.collect()
        with watch.lock:
            return _Mark(
                sums={key: each.amounts for key, each in watch.sums.items()},
                plain={op: op.calls for op in list(watch.plain.values())},
                unknown=dict(watch.unknown),
                modules=watch.modules.begin(),
                unseen_calls=watch.modules.unseen_calls,
                traffic=None if watch.traffic is None else watch.traffic.mark(),
                modes=mode_stack.stack(),
            )

    def end(self, mark: _Mark) -> FlopTally:
        """Close a region: the counters now less those of its mark."""
        self.watch.hidden.children.collect(ends=True)
        with self.watch.lock:
            return FlopTally(
                engine=self.name,
                counts=(*self._counted(mark), *self._plain(mark)),
                unknown_ops=tuple(self._unknown(mark)),
                attention=self.watch.costs.attention,
                bytes_moved=self._bytes_moved(mark),
            )

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Let ops and modules of the block go by unseen."""
        watch = self.watch
        before = watch.paused
        watch.paused = watch.modules.paused = True
        try:
            yield
        finally:
            watch.paused = watch.modules.paused = before

    def tell(self, tick: Callable[[], None]) -> None:
        """From now on call ``tick`` after each op call."""
        self.watch.tell(tick)

    def note_models(self) -> None:
        """From now on note the calls of models that have a config."""
        if self.watch.modules.models is None:
            self.watch.modules.models = ModelCalls()

    def model_calls(self, mark: _Mark) -> tuple[ModelCall, ...]:
        """Calls of models in the region."""
        return self.watch.modules.model_calls(mark.modules)

    def workload(self, mark: _Mark) -> Workload:
        """Return what the outermost modules of the region were called with."""
        return self.watch.modules.workload(mark.modules)

    def parameters(self, mark: _Mark) -> ParameterCount | None:
        """Distinct parameters of the models that ran in the region."""
        return self.watch.modules.parameters(mark.modules)

    def _bytes_moved(self, mark: _Mark) -> ByteTally | None:
        traffic = self.watch.traffic
        return None if traffic is None or mark.traffic is None else traffic.since(mark.traffic)

    def _counted(self, mark: _Mark) -> Iterable[OpCount]:
        for place, total in self.watch.sums.items():
            calls, flops, again, masked = mark.sums.get(place, (0, 0, 0, 0))
            if total.calls > calls:
                yield OpCount(
                    **place._asdict(),
                    kind="counted",
                    calls=total.calls - calls,
                    flops=total.flops - flops,
                    kernel_recompute=total.kernel_recompute - again,
                    masked_flops=total.masked - masked,
                )

    def _plain(self, mark: _Mark) -> Iterable[OpCount]:
        calls: dict[tuple[str, Kind], int] = {}
        for op in list(self.watch.plain.values()):
            calls[op.name, op.kind] = calls.get((op.name, op.kind), 0) + op.calls - mark.plain.get(op, 0)
        for (name, kind), number in calls.items():
            if number:
                yield OpCount(op=name, module="", phase="forward", kind=kind, calls=number, flops=0)

    def _unknown(self, mark: _Mark) -> Iterable[UnknownOp]:
        for key, calls in self.watch.unknown.items():
            more = calls - mark.unknown.get(key, 0)
            if more:
                op, module, phase, _ = key.place
                yield UnknownOp(
                    op=op,
                    module=module,
                    phase=phase,
                    call=key.call,
                    calls=more,
                    reason=key.reason,
                    dense_flops=None if key.dense_flops is None else key.dense_flops * more,
                )
        unseen = self.watch.modules.unseen_calls - mark.unseen_calls
        if unseen:
            yield UnknownOp(
                op="python.thread",
                call="an nn.Module called in another thread",
                module="",
                phase="forward",
                calls=unseen,
                reason="op calls of threads that started before the test are not seen",
            )
        now = mode_stack.stack() if self.watch.active else mark.modes
        for name, what in mode_stack.changes(mark.modes, now):
            yield UnknownOp(
                op=f"dispatch_mode.{name}",
                call=f"the dispatch mode {name} was {what}",
                module="",
                phase="forward",
                calls=1,
                reason="op calls may have been hidden from the count: enter the mode in a with statement",
            )
        graphs = cuda_graphs.alive()
        if graphs:
            yield UnknownOp(
                op="cuda.graph",
                call="a captured CUDA graph is alive, and may have been replayed",
                module="",
                phase="forward",
                calls=graphs,
                reason="the replay of a CUDA graph shows no op calls: count the model without the graph",
            )
