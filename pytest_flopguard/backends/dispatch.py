"""Counts op calls of any device through a TorchDispatchMode: forward, backward, recompute and optimizer.

A mode is called before torch's own fake-tensor mode, so the same calls are seen on cpu, cuda, meta and fake tensors.
While a call runs, the mode is off: each call is counted once, at the level at which autograd issued it. A call that a
tensor subclass answers is what the subclass does for it: the calls on its inner tensors count instead.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from threading import RLock
from typing import Any, NamedTuple

from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode, _get_current_dispatch_mode_stack, _push_mode

from pytest_flopguard.backends.attention_masks import AttentionMasks, Product
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
from pytest_flopguard.backends.known_op import KnownOp, learn
from pytest_flopguard.backends.model_calls import ModelCalls
from pytest_flopguard.backends.modules import ModulesMark, ModuleTracker
from pytest_flopguard.backends.new_threads import NewThreads
from pytest_flopguard.backends.subclass_calls import Inside, has_tensor, pushed, subclasses
from pytest_flopguard.backends.traffic import Traffic
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
from pytest_flopguard.core.model_call import ModelCall
from pytest_flopguard.core.traffic import ByteTally


class _Place(NamedTuple):
    op: str
    module: str
    phase: Phase


class _Unknown(NamedTuple):
    place: _Place
    call: str
    reason: str
    dense_flops: int | None = None


class _Sum:
    """Running sums of one op in one place."""

    __slots__ = ("calls", "flops", "kernel_recompute", "masked")

    def __init__(self) -> None:
        self.calls = self.flops = self.kernel_recompute = self.masked = 0

    @property
    def amounts(self) -> tuple[int, int, int, int]:
        """All four, to be subtracted from later ones."""
        return self.calls, self.flops, self.kernel_recompute, self.masked


class _Mark(NamedTuple):
    """The counters at the start of a region."""

    sums: dict[_Place, tuple[int, int, int, int]]
    plain: dict[KnownOp, int]
    unknown: dict[_Unknown, int]
    modules: ModulesMark
    unseen_calls: int
    traffic: dict[Any, tuple[int, int]] | None


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
        self.plain: dict[Any, KnownOp] = {}
        self.sums: dict[_Place, _Sum] = {}
        self.unknown: dict[_Unknown, int] = {}
        self.masks: AttentionMasks | None = None
        self.traffic: Traffic | None = None
        self._cache: dict[Signature, Cost] = {}
        self._stance = EagerStance()
        self._threads = NewThreads(self._joined)

    def __enter__(self) -> OpWatch:
        # Counters start anew; what ops cost stays known.
        self.sums.clear()
        self.unknown.clear()
        for op in self.plain.values():
            op.calls = 0
        if self.traffic is not None:
            self.traffic.clear()
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

    def follow_masks(self) -> None:
        """From now on find what attention masks hide."""
        self.masks = AttentionMasks(self._hide, self._lose)

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
            op = self.plain.setdefault(func, learn(func, self.costs))
        if types and (kinds := subclasses(types)):
            return self._look_inside(op, kinds, func, args, kwargs)
        if op.decomposes:
            # Inference mode delivers composite ops whole; their parts are what the other modes deliver.
            with pushed(self):
                return func.decompose(*args, **(kwargs or {}))
        out = func(*args, **kwargs) if kwargs else func(*args)
        if self.traffic is not None:
            with self.lock:
                self.traffic.saw(func, args, kwargs, out, self.modules.place())
        if op.kind == "counted":
            self._count(op, func, args, kwargs, out)
        elif op.kind == "unknown":
            self._note_unknown(op, describe(op.name, args, kwargs), NO_FORMULA)
        else:
            with self.lock:
                op.calls += 1
                if self.masks is not None:
                    self.masks.saw_plain(op.name, func, args, kwargs, out)
        if self.storages is not None:
            with self.lock:
                self.storages.saw(op.makes_storage, func, args, kwargs, out)
        return out

    def _look_inside(self, op: KnownOp, kinds: tuple[type, ...], func: Any, args: Any, kwargs: Any) -> Any:
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

    def _count(self, op: KnownOp, func: OpOverload, args: Any, kwargs: Any, out: Any) -> None:
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
            total.masked += cost.masked_flops
            if self.masks is not None:
                text = partial(describe, op.name, args, kwargs)
                self.masks.saw_counted(op.name, func, args, kwargs, out, partial(Product, place, text, cost))

    def _cost(self, op: KnownOp, args: Any, kwargs: Any, out: Any) -> Cost:
        components = None if kwargs else by_component(op.name, args)
        if components is not None:
            costs = [self.costs.cost(OpCall(op=op.name, args=each, names=op.arguments)) for each in components]
            if all(each.flops is not None for each in costs):
                return Cost(
                    kind="counted",
                    flops=sum(each.flops or 0 for each in costs),
                    kernel_recompute=sum(each.kernel_recompute for each in costs),
                    masked_flops=sum(each.masked_flops for each in costs),
                )
        sparse = any(is_sparse(each) for each in (*args, *(kwargs or {}).values()))
        try:
            call = OpCall(
                op=f"{op.name}{SPARSE}" if sparse else op.name,
                args=specs(args),
                # An out= overload writes into tensors that are no operands.
                kwargs={name: specs(value) for name, value in (kwargs or {}).items() if name not in op.results},
                out=specs(out, result=True),
                names=op.arguments,
            )
        except NoShape as reason:
            return Cost(kind="unknown", flops=None, reason=str(reason))
        cost = self.costs.cost(call)
        return replace(cost, reason=f"{NO_FORMULA} on sparse tensors") if sparse and cost.reason == NO_FORMULA else cost

    def _note_unknown(self, op: KnownOp, call: str, reason: str) -> None:
        key = _Unknown(_Place(op.name, *self.modules.place()), call, reason)
        with self.lock:
            self.unknown[key] = self.unknown.get(key, 0) + 1

    def _hide(self, product: Product, flops: int) -> None:
        self.sums[product.place].masked += flops

    def _lose(self, product: Product, reason: str) -> None:
        total, cost = self.sums[product.place], product.cost
        total.calls -= 1
        total.flops -= product.flops
        total.kernel_recompute -= cost.kernel_recompute
        total.masked -= cost.masked_flops
        key = _Unknown(product.place, product.call(), reason, cost.flops)
        self.unknown[key] = self.unknown.get(key, 0) + 1


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

    def begin(self) -> _Mark:
        """Open a region."""
        watch = self.watch
        with watch.lock:
            return _Mark(
                sums={key: each.amounts for key, each in watch.sums.items()},
                plain={op: op.calls for op in list(watch.plain.values())},
                unknown=dict(watch.unknown),
                modules=watch.modules.begin(),
                unseen_calls=watch.modules.unseen_calls,
                traffic=None if watch.traffic is None else watch.traffic.mark(),
            )

    def end(self, mark: _Mark) -> FlopTally:
        """Close a region: the counters now less those of its mark."""
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

    def note_models(self) -> None:
        """From now on note the calls of models that have a config."""
        if self.watch.modules.models is None:
            self.watch.modules.models = ModelCalls()

    def model_calls(self, mark: _Mark) -> tuple[ModelCall, ...]:
        """Calls of models in the region."""
        return self.watch.modules.model_calls(mark.modules)

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
                yield UnknownOp(
                    **key.place._asdict(),
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
