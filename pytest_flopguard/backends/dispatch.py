"""Counts op calls of any device through a TorchDispatchMode: forward, backward, recompute and optimizer.

A mode is called before torch's own fake-tensor mode, so the same calls are seen on cpu, cuda, meta and fake tensors.
While a call runs, the mode is off: each call is counted once, at the level at which autograd issued it. A call that a
tensor subclass answers is what the subclass does for it: the calls on its inner tensors count instead.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from threading import RLock
from typing import Any, NamedTuple

from torch._ops import HigherOrderOperator, OpOverload
from torch.utils._python_dispatch import TorchDispatchMode, _get_current_dispatch_mode_stack, _push_mode

from pytest_flopguard.backends import op_traits
from pytest_flopguard.backends.base import CostModel
from pytest_flopguard.backends.call_specs import (
    SPARSE,
    NoShape,
    Signature,
    by_component,
    describe,
    is_sparse,
    signature,
    specs,
)
from pytest_flopguard.backends.eager_stance import EagerStance
from pytest_flopguard.backends.modules import ModuleTracker
from pytest_flopguard.backends.new_threads import NewThreads
from pytest_flopguard.backends.subclass_calls import Inside, has_tensor, pushed, subclasses
from pytest_flopguard.core.measurement import (
    NO_FORMULA,
    Cost,
    FlopTally,
    Kind,
    OpCall,
    OpCount,
    ParameterCount,
    Phase,
    UnknownOp,
)


class _Op:
    """What is known of an op before any call: its name, kind, and how it is to be treated."""

    __slots__ = ("calls", "decomposes", "foreign", "kind", "makes_storage", "name", "opaque", "results")

    def __init__(
        self,
        name: str,
        kind: Kind,
        *,
        decomposes: bool = False,
        makes_storage: bool = True,
        foreign: bool = True,
        opaque: bool = False,
        results: frozenset[str] = frozenset(),
    ) -> None:
        self.name = name
        self.kind = kind
        self.decomposes = decomposes
        self.makes_storage = makes_storage
        self.foreign = foreign
        self.opaque = opaque
        self.results = results
        self.calls = 0


class _Place(NamedTuple):
    op: str
    module: str
    phase: Phase


class _Sum:
    """Running sums of one op in one place."""

    __slots__ = ("calls", "flops", "kernel_recompute")

    def __init__(self) -> None:
        self.calls = self.flops = self.kernel_recompute = 0


class _Mark(NamedTuple):
    """The counters at the start of a region."""

    sums: dict[_Place, tuple[int, int, int]]
    plain: dict[_Op, int]
    unknown: dict[tuple[_Place, str, str], int]
    modules: int
    unseen_calls: int


class OpWatch(TorchDispatchMode):
    """The mode itself. ``storages`` (live_storage) may listen to the same calls."""

    supports_higher_order_operators = True

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # False spares each call torch's wrapper that hides the handler from torch.compile, and each process the
        # import of torch._dynamo: nothing compiles under an EagerStance, so there is nothing to hide from.
        return False

    def __init__(self, costs: CostModel) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.costs = costs
        self.active = False
        self.paused = False
        self.lock = RLock()  # held while what threads share changes; a finalizer may call ops in between
        self.modules = ModuleTracker(self._on_this_thread, self.lock)
        self.storages: Any = None
        self.plain: dict[Any, _Op] = {}
        self.sums: dict[_Place, _Sum] = {}
        self.unknown: dict[tuple[_Place, str, str], int] = {}
        self._cache: dict[Signature, Cost] = {}
        self._stance = EagerStance()
        self._threads = NewThreads(self._joined)

    def __enter__(self) -> OpWatch:
        # Counters start anew; what ops cost stays known.
        self.sums.clear()
        self.unknown.clear()
        for op in self.plain.values():
            op.calls = 0
        self._stance.__enter__()
        self.modules.__enter__()
        super().__enter__()  # type: ignore[no-untyped-call]
        self.active = True
        self._threads.__enter__()
        return self

    def __exit__(self, *exc: Any) -> None:
        self._threads.__exit__()
        self.active = False
        super().__exit__(*exc)  # type: ignore[no-untyped-call]
        self.modules.__exit__(*exc)
        self._stance.__exit__(*exc)

    def _joined(self) -> None:
        # Modes belong to a thread, so this one goes with it; where the thread outlives the watch, it lets all go by.
        _push_mode(self)

    def _on_this_thread(self) -> bool:
        return any(mode is self for mode in _get_current_dispatch_mode_stack())

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if self.paused or not self.active:
            return func(*args, **(kwargs or {}))
        op = self.plain.get(func)
        if op is None:
            op = self.plain.setdefault(func, _learn(func, self.costs))
        if types and (kinds := subclasses(types)):
            return self._look_inside(op, kinds, func, args, kwargs)
        if op.decomposes:
            # Inference mode delivers composite ops whole; their parts are what the other modes deliver.
            with pushed(self):
                return func.decompose(*args, **(kwargs or {}))
        out = func(*args, **kwargs) if kwargs else func(*args)
        if op.kind == "counted":
            self._count(op, func, args, kwargs, out)
        elif op.kind == "unknown":
            self._note_unknown(op, describe(op.name, args, kwargs), NO_FORMULA)
        else:
            with self.lock:
                op.calls += 1
        if self.storages is not None:
            with self.lock:
                self.storages.saw(op.makes_storage, func, args, kwargs, out)
        return out

    def _look_inside(self, op: _Op, kinds: tuple[type, ...], func: Any, args: Any, kwargs: Any) -> Any:
        inside = Inside(self.__torch_dispatch__)
        with inside.below():
            out = func(*args, **(kwargs or {}))
        seen = {self.plain[each].kind for each in inside.ops}
        if op.kind == "counted":
            silent = seen.isdisjoint(("counted", "unknown"))
        else:
            silent = op.kind == "unknown" and not seen and has_tensor(out)
        if silent:
            names = ", ".join(sorted({each.__name__ for each in kinds}))
            self._note_unknown(op, describe(op.name, args, kwargs), f"{names} answered it out of sight")
        if self.storages is not None:
            with self.lock:
                self.storages.saw(op.makes_storage, func, args, kwargs, out)
        return out

    def _count(self, op: _Op, func: OpOverload, args: Any, kwargs: Any, out: Any) -> None:
        try:
            # What a foreign op returns may depend on values, and its formula may look at it.
            results = signature((out,)) if op.foreign else None
            key = (func, signature(args), signature(kwargs.items()) if kwargs else None, results)
            cost = None if op.opaque else self._cache.get(key)
        except (TypeError, RuntimeError):  # an unhashable argument, a tensor without one shape: cost this call alone
            key, cost = None, None
        if cost is None:
            cost = self._cost(op, args, kwargs, out)
            if key is not None and not op.opaque:
                self._cache[key] = cost
        if cost.flops is None:
            self._note_unknown(op, describe(op.name, args, kwargs), cost.reason)
            return
        place = _Place(op.name, *self.modules.place())
        with self.lock:
            total = self.sums.get(place)
            if total is None:
                total = self.sums[place] = _Sum()
            total.calls += 1
            total.flops += cost.flops
            total.kernel_recompute += cost.kernel_recompute

    def _cost(self, op: _Op, args: Any, kwargs: Any, out: Any) -> Cost:
        components = None if kwargs else by_component(op.name, args)
        if components is not None:
            costs = [self.costs.cost(OpCall(op=op.name, args=each)) for each in components]
            flops, again = [each.flops for each in costs], sum(each.kernel_recompute for each in costs)
            if None not in flops:
                return Cost(kind="counted", flops=sum(each or 0 for each in flops), kernel_recompute=again)
        sparse = any(is_sparse(each) for each in (*args, *(kwargs or {}).values()))
        try:
            call = OpCall(
                op=f"{op.name}{SPARSE}" if sparse else op.name,
                args=specs(args),
                # An out= overload writes into tensors that are no operands.
                kwargs={name: specs(value) for name, value in (kwargs or {}).items() if name not in op.results},
                out=specs(out, result=True),
            )
        except NoShape as reason:
            return Cost(kind="unknown", flops=None, reason=str(reason))
        cost = self.costs.cost(call)
        return replace(cost, reason=f"{NO_FORMULA} on sparse tensors") if sparse and cost.reason == NO_FORMULA else cost

    def _note_unknown(self, op: _Op, call: str, reason: str) -> None:
        key = (_Place(op.name, *self.modules.place()), call, reason)
        with self.lock:
            self.unknown[key] = self.unknown.get(key, 0) + 1


class DispatchFlops:
    """The FlopBackend over an OpWatch."""

    name = "dispatch"

    def __init__(self, costs: CostModel) -> None:
        self.watch = OpWatch(costs)

    def __enter__(self) -> DispatchFlops:
        self.watch.__enter__()
        return self

    def __exit__(self, *exc: Any) -> None:
        self.watch.__exit__(*exc)

    def begin(self) -> _Mark:
        """Open a region."""
        watch = self.watch
        with watch.lock:
            return _Mark(
                sums={key: (each.calls, each.flops, each.kernel_recompute) for key, each in watch.sums.items()},
                plain={op: op.calls for op in list(watch.plain.values())},
                unknown=dict(watch.unknown),
                modules=watch.modules.begin(),
                unseen_calls=watch.modules.unseen_calls,
            )

    def end(self, mark: _Mark) -> FlopTally:
        """Close a region: the counters now less those of its mark."""
        with self.watch.lock:
            return FlopTally(
                engine=self.name,
                counts=(*self._counted(mark), *self._plain(mark)),
                unknown_ops=tuple(self._unknown(mark)),
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

    def parameters(self, mark: _Mark) -> ParameterCount | None:
        """Distinct parameters of the models that ran in the region."""
        return self.watch.modules.parameters(mark.modules)

    def _counted(self, mark: _Mark) -> Iterable[OpCount]:
        for place, total in self.watch.sums.items():
            calls, flops, again = mark.sums.get(place, (0, 0, 0))
            if total.calls > calls:
                yield OpCount(
                    **place._asdict(),
                    kind="counted",
                    calls=total.calls - calls,
                    flops=total.flops - flops,
                    kernel_recompute=total.kernel_recompute - again,
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
            place, call, reason = key
            if calls > mark.unknown.get(key, 0):
                yield UnknownOp(**place._asdict(), call=call, calls=calls - mark.unknown.get(key, 0), reason=reason)
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


def _learn(func: Any, costs: CostModel) -> _Op:
    if isinstance(func, HigherOrderOperator):
        name = f"higher_order.{func.name()}"
        kind = costs.kind(name, frozenset())
        return _Op(name, kind)
    name = func._schema.name.replace("::", ".")
    kind = costs.kind(name, op_traits.traits(func))
    if kind == "unknown":
        kind = _kind_by_kin(func, costs)
    if kind == "unknown" and costs.kind(name + SPARSE, frozenset()) == "counted":
        kind = "counted"
    return _Op(
        name,
        kind,
        decomposes=kind == "unknown" and func._can_decompose(),
        makes_storage=any(each.alias_info is None for each in func._schema.returns),
        foreign=func.namespace not in ("aten", "prims"),
        # Packed parameters hide their sizes, and a key would keep them alive.
        opaque=any("__torch__" in str(each.type) for each in func._schema.arguments),
        results=frozenset(each.name for each in func._schema.arguments if each.is_out),
    )


def _kind_by_kin(func: OpOverload, costs: CostModel) -> Kind:
    for kin in op_traits.kin(func):
        kind = costs.kind(kin.name, kin.traits)
        if kind in ("free", "uncounted"):
            return "uncounted" if kin.derivative else kind
    return "unknown"
