"""Counts op calls of any device through a TorchDispatchMode: forward, backward, recompute and optimizer.

A mode is called before torch's own fake-tensor mode, so the same calls are seen on cpu, cuda, meta and fake tensors.
While a call runs, the mode is off: each call is counted once, at the level at which autograd issued it. A call that a
tensor subclass answers is what the subclass does for it: the calls on its inner tensors count instead.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from threading import RLock
from typing import Any, NamedTuple

from pytest_flopguard.backends import tbc_backward
from pytest_flopguard.backends.attention_masks import AttentionMasks
from pytest_flopguard.backends.attention_trail import Product
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
    with_values,
)
from pytest_flopguard.backends.control_flow import LOST_GRADIENTS, GradientLoss, NotFollowed, followed
from pytest_flopguard.backends.deciding_values import Values, by_name
from pytest_flopguard.backends.eager_stance import EagerStance
from pytest_flopguard.backends.known_op import KnownOp, learn
from pytest_flopguard.backends.modules import ModuleTracker
from pytest_flopguard.backends.new_threads import NewThreads
from pytest_flopguard.backends.padded_heads import KERNELS, PAD, PaddedHeads, SeveralWidths
from pytest_flopguard.backends.subclass_calls import Inside, has_tensor, is_planning, pushed, subclasses
from pytest_flopguard.backends.tbc_backward import TbcBackward
from pytest_flopguard.backends.torch_api.dispatch import OpOverload, TorchDispatchMode, mode_stack, push_mode
from pytest_flopguard.backends.traffic import Traffic
from pytest_flopguard.backends.triton_launches import REASON, TritonLaunches
from pytest_flopguard.core.measurement import (
    NO_FORMULA,
    Cost,
    OpCall,
    Phase,
)


class Place(NamedTuple):
    """Where calls of one op are summed."""

    op: str
    module: str
    phase: Phase
    at_most: str = ""


class Unseen(NamedTuple):
    """Calls of an op whose FLOPs are not known, alike in every respect."""

    place: Place
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
        self._inside = 0  # calls in progress that subclasses answer; a DTensor may be planning in one
        self.lock = RLock()  # held while what threads share changes; a finalizer may call ops in between
        self.modules = ModuleTracker(self._on_this_thread, self.lock)
        self.storages: Any = None
        self.plain: dict[Any, KnownOp] = {}
        self.sums: dict[Place, _Sum] = {}
        self.unknown: dict[Unseen, int] = {}
        self.masks: AttentionMasks | None = None
        self.traffic: Traffic | None = None
        self._heads = PaddedHeads()
        self._tbc = TbcBackward()
        self._cache: dict[Signature, Cost] = {}
        self._stance = EagerStance()
        self._threads = NewThreads(self._joined)
        self._launches = TritonLaunches(self._note_launch)

    def __enter__(self) -> OpWatch:
        # Counters start anew; what ops cost stays known.
        self.sums.clear()
        self.unknown.clear()
        self._tbc.clear()
        for op in self.plain.values():
            op.calls = 0
        if self.traffic is not None:
            self.traffic.clear()
        self._stance.__enter__()
        self.modules.__enter__()
        super().__enter__()  # type: ignore[no-untyped-call]
        self.active = True
        self._threads.__enter__()
        self._launches.__enter__()
        return self

    def __exit__(self, *exc: Any) -> None:
        self._launches.__exit__(*exc)
        self._threads.__exit__()
        self.active = False
        super().__exit__(*exc)  # type: ignore[no-untyped-call]
        self.modules.__exit__(*exc)
        self._stance.__exit__(*exc)

    def follow_masks(self) -> None:
        """From now on find what attention masks hide."""
        self.masks = AttentionMasks(self._hide, self._lose)

    def tell(self, tick: Callable[[], None]) -> None:
        """From now on call ``tick`` after each op call; a watch that nobody asked pays nothing for it."""
        saw = self._saw

        def told(*call: Any) -> None:
            saw(*call)
            tick()

        self._saw = told  # type: ignore[method-assign,assignment]

    def _joined(self) -> None:
        # Modes belong to a thread, so this one goes with it; where the thread outlives the watch, it lets all go by.
        push_mode(self)

    def _on_this_thread(self) -> bool:
        return any(mode is self for mode in mode_stack())

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if self.paused or not self.active or (self._inside and is_planning()):
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
        if op.flow:
            return self._follow_flow(op, func, args, kwargs)
        if self._launches.on:
            with self._launches.within_op():
                out = func(*args, **(kwargs or {}))
        else:
            out = func(*args, **kwargs) if kwargs else func(*args)
        self._saw(op, func, args, kwargs, out)
        return out

    def _saw(self, op: KnownOp, func: Any, args: Any, kwargs: Any, out: Any) -> None:
        if self.traffic is not None:
            with self.lock:
                self.traffic.saw(func, args, kwargs, out, self.modules.place())
        if op.kind == "counted":
            self._count(op, func, args, kwargs, out)
        elif op.kind == "unknown":
            self._note_unknown(op, describe(op.name, args, kwargs), NO_FORMULA)
        else:
            if func is PAD:
                self._heads.saw_padding(args, out)
            with self.lock:
                op.calls += 1
                if self.masks is not None:
                    self.masks.saw_plain(op.name, func, args, kwargs, out)
        if self.storages is not None:
            with self.lock:
                self.storages.saw(op.makes_storage, func, args, kwargs, out)

    def _look_inside(self, op: KnownOp, kinds: tuple[type, ...], func: Any, args: Any, kwargs: Any) -> Any:
        inside = Inside(self.__torch_dispatch__)
        self._inside += 1
        try:
            with inside.below():
                out = func(*args, **(kwargs or {}))
        finally:
            self._inside -= 1
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

    def _follow_flow(self, op: KnownOp, func: Any, args: Any, kwargs: Any) -> Any:
        try:
            run = followed(op.flow, args)
        except NotFollowed as reason:
            self._note_unknown(op, describe(op.name, args, kwargs), str(reason))
            return func(*args, **(kwargs or {}))
        loss = GradientLoss()
        with pushed(self), pushed(loss):
            out = run()
        if loss.found:
            self._note_unknown(op, describe(op.name, args, kwargs), LOST_GRADIENTS)
        return out

    def _count(self, op: KnownOp, func: OpOverload, args: Any, kwargs: Any, out: Any) -> None:
        if func is tbc_backward.PART and (node := self._tbc.running()) is not None:
            self._count_tbc_backward(node)
            return
        given = args
        if func in KERNELS:
            try:
                args = self._heads.without_padding(func, args, kwargs)
            except SeveralWidths as reason:
                self._note_unknown(op, describe(op.name, args, kwargs), str(reason))
                return
        # Values decide what these ops do, so calls of the same shapes differ.
        values = by_name(op.arguments, op.reads, args, kwargs) if op.reads else None
        try:
            # What a foreign op returns may depend on values, and its formula may look at it.
            results = signature((out,)) if op.foreign else None
            told = None if values is None else tuple(values.items())
            key = (func, signature(args), signature(kwargs.items()) if kwargs else None, results, told)
            cost = None if op.opaque else self._cache.get(key)
        except (TypeError, RuntimeError):  # an unhashable argument, a tensor without one shape: cost this call alone
            key, cost = None, None
        if cost is None:
            cost = self._cost(op, args, kwargs, out, values or {})
            if key is not None and not op.opaque:
                self._cache[key] = cost
        if cost.flops is None:
            self._note_unknown(op, describe(op.name, args, kwargs), cost.reason)
            return
        if func is tbc_backward.FORWARD:
            self._tbc.saw_forward(cost.flops)
        place = Place(op.name, *self.modules.place(), cost.at_most)
        with self.lock:
            self._add(place, cost)
            if self.masks is not None:
                # The text at once: what tells it later would keep the tensors alive.
                text = describe(op.name, args, kwargs)
                self.masks.saw_counted(op.name, func, given, kwargs, out, partial(Product, place, text, cost))

    def _add(self, place: Place, cost: Cost) -> None:
        total = self.sums.get(place)
        if total is None:
            total = self.sums[place] = _Sum()
        total.calls += 1
        total.flops += cost.flops or 0
        total.kernel_recompute += cost.kernel_recompute
        total.masked += cost.masked_flops

    def _count_tbc_backward(self, node: Any) -> None:
        if not self._tbc.first_part(node):
            return
        flops = self._tbc.flops(node)
        place = Place(tbc_backward.NAME, *self.modules.place())
        with self.lock:
            if flops is not None:
                self._add(place, Cost(kind="counted", flops=flops))
            else:
                key = Unseen(place, tbc_backward.NAME, "its forward ran before the measurement began")
                self.unknown[key] = self.unknown.get(key, 0) + 1

    def _cost(self, op: KnownOp, args: Any, kwargs: Any, out: Any, values: dict[str, Values]) -> Cost:
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
                args=with_values(specs(args), op.arguments, values),
                # An out= overload writes into tensors that are no operands.
                kwargs={
                    name: replace(specs(value), values=values[name]) if name in values else specs(value)
                    for name, value in (kwargs or {}).items()
                    if name not in op.results
                },
                out=specs(out, result=True),
                names=op.arguments,
            )
        except NoShape as reason:
            return Cost(kind="unknown", flops=None, reason=str(reason))
        cost = self.costs.cost(call)
        return replace(cost, reason=f"{NO_FORMULA} on sparse tensors") if sparse and cost.reason == NO_FORMULA else cost

    def _note_unknown(self, op: KnownOp, call: str, reason: str) -> None:
        key = Unseen(Place(op.name, *self.modules.place()), call, reason)
        with self.lock:
            self.unknown[key] = self.unknown.get(key, 0) + 1

    def _note_launch(self, name: str) -> None:
        if self.paused:
            return
        key = Unseen(Place(f"triton.{name}", *self.modules.place()), f"the Triton kernel {name}", REASON)
        with self.lock:
            self.unknown[key] = self.unknown.get(key, 0) + 1

    def _hide(self, product: Product, flops: int) -> None:
        self.sums[product.place].masked += flops

    def _lose(self, product: Product, reason: str) -> None:
        total, cost = self.sums[product.place], product.cost
        total.calls -= 1
        total.flops -= cost.flops or 0
        total.kernel_recompute -= cost.kernel_recompute
        total.masked -= cost.masked_flops
        key = Unseen(product.place, product.call, reason, cost.flops)
        self.unknown[key] = self.unknown.get(key, 0) + 1
