"""Counts op calls of any device through a TorchDispatchMode: forward, backward, recompute and optimizer.

A mode is called before torch's own fake-tensor mode, so the same calls are seen on cpu, cuda, meta and fake tensors.
While a call runs, the mode is off: each call is counted once, at the level at which autograd issued it. A call that a
tensor subclass answers is what the subclass does for it: the calls on its inner tensors count instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from threading import RLock, get_ident
from typing import Any

from pytest_flopguard.backends import mode_stack, tbc_backward
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
from pytest_flopguard.backends.control_flow import NotFollowed, run_watched
from pytest_flopguard.backends.deciding_values import Values, by_name
from pytest_flopguard.backends.eager_stance import EagerStance
from pytest_flopguard.backends.hidden_work import HiddenWork
from pytest_flopguard.backends.known_op import KnownOp, learn
from pytest_flopguard.backends.modules import ModuleTracker
from pytest_flopguard.backends.new_threads import NewThreads, Standing
from pytest_flopguard.backends.op_sums import Place, Sum, Unseen
from pytest_flopguard.backends.padded_heads import KERNELS, PAD, PaddedHeads, SeveralWidths
from pytest_flopguard.backends.recording import by_the_way
from pytest_flopguard.backends.subclass_calls import Inside, has_tensor, is_planning, pushed, subclasses
from pytest_flopguard.backends.tbc_backward import TbcBackward
from pytest_flopguard.backends.torch_api.dispatch import OpOverload, TorchDispatchMode, is_recording, push_mode
from pytest_flopguard.backends.traffic import Traffic
from pytest_flopguard.backends.wrapped_numbers import call
from pytest_flopguard.core.measurement import NO_FORMULA, Cost, OpCall

# Frames of this module lie between those of the user: pytest leaves them out of tracebacks.
__tracebackhide__ = True

COMPILED = (
    "it runs compiled here, and compiled kernels show no op calls: give the test a budget, and it runs as written"
)
EARLIER_THREAD = "a thread that an earlier test started made the call, perhaps for this test"


class OpWatch(TorchDispatchMode):
    """The mode itself. ``storages`` (live_storage) may listen to the same calls."""

    supports_higher_order_operators = True

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # False spares each call torch's wrapper that hides the handler from torch.compile, and each process the
        # import of torch._dynamo. What is compiled under an EagerStance calls no Python between its ops.
        return False

    @classmethod
    def ignore_compile_internals(cls) -> bool:
        """Let torch compile under this mode, which then sees what the compiled code calls."""
        return True

    def __init__(self, costs: CostModel) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.costs = costs
        self.active = False
        self.paused = False
        self._inside = 0  # calls in progress that subclasses answer; a DTensor may be planning in one
        self.lock = RLock()  # held while what threads share changes; a finalizer may call ops in between
        self._threads = NewThreads(self._joined)
        self.modules = ModuleTracker(self.on_this_thread, lambda: self._threads.standing() != "current", self.lock)
        self.storages: Any = None
        self.plain: dict[Any, KnownOp] = {}
        self.sums: dict[Place, Sum] = {}
        self.unknown: dict[Unseen, int] = {}
        self.masks: AttentionMasks | None = None
        self.traffic: Traffic | None = None
        self._heads = PaddedHeads()
        self._tbc = TbcBackward()
        self._cache: dict[Signature, Cost] = {}
        self.compiled = EagerStance(self._ran_as_written, self._hide_from_compiler)
        self.ran_as_written = 0  # calls of compiled functions
        self._home = 0
        self._below: mode_stack.Stack = ()
        self.hidden = HiddenWork(self, costs)
        self.reports_to: Callable[[str], None] | None = None  # in a child process, which a test has started

    def __enter__(self) -> OpWatch:
        # Counters start anew; what ops cost stays known.
        self.sums.clear()
        self.unknown.clear()
        self._tbc.clear()
        self.ran_as_written = 0
        for op in self.plain.values():
            op.calls = 0
        if self.traffic is not None:
            self.traffic.clear()
        self.compiled.__enter__()
        self.modules.__enter__()
        # Entering the mode would set flags of the whole process, by which torch refuses to compile.
        self._home, self._below = get_ident(), mode_stack.stack()
        push_mode(self)
        self.active = True
        self._threads.__enter__()
        self.hidden.__enter__()
        return self

    def __exit__(self, *exc: Any) -> None:
        self.hidden.__exit__(*exc)
        self._threads.__exit__()
        self.active = False
        mode_stack.leave(self, self._below)
        self._below = ()
        self.modules.__exit__(*exc)
        self.compiled.__exit__(*exc)

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

    @property
    def on(self) -> bool:
        """Whether op calls are counted now."""
        return self.active and not self.paused

    def on_this_thread(self) -> bool:
        """Whether op calls of this thread are seen."""
        return any(mode is self for mode in mode_stack.stack())

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Run the block without the mode on this thread's stack and without any hook."""
        come_back = self.modules.step_aside()
        try:
            with mode_stack.without(self):
                yield
        finally:
            come_back()

    def _ran_as_written(self) -> None:
        self.ran_as_written += 1

    def _hide_from_compiler(self, of_torch: bool) -> Callable[[], None]:
        if of_torch:  # the graph of a higher-order op, which runs as the op calls that it is made of
            return self.modules.step_aside()
        self.hidden.note("torch.compile", "a compiled function", COMPILED)
        stack = ExitStack()
        stack.enter_context(self.aside())
        return stack.close

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if self.paused or not self.active or (self._inside and is_planning()):
            return call(func, args, kwargs)
        if get_ident() != self._home and (standing := self._threads.standing()) != "current":
            return self._let_pass(standing, func, args, kwargs)
        op = self.plain.get(func)
        if op is None:
            op = self.plain.setdefault(func, learn(func, self.costs))
        recorded = is_recording()
        if (types or recorded) and by_the_way():
            return func(*args, **(kwargs or {}))
        if types and (kinds := subclasses(types)):
            return self._look_inside(op, kinds, func, args, kwargs)
        if recorded:
            out = func(*args, **(kwargs or {}))
            if op.kind == "counted":
                self._count(op, func, args, kwargs, out)
            elif op.kind == "unknown":
                self._note_unknown(op, describe(op.name, args, kwargs), NO_FORMULA)
            return out
        if op.decomposes:
            # Inference mode delivers composite ops whole; their parts are what the other modes deliver.
            with pushed(self):
                return func.decompose(*args, **(kwargs or {}))
        if op.flow:
            return self._follow_flow(op, func, args, kwargs)
        if self.hidden.launches.on:
            with self.hidden.launches.within_op():
                out = call(func, args, kwargs)
        else:
            out = call(func, args, kwargs)
        self._saw(op, func, args, kwargs, out)
        return out

    def _let_pass(self, standing: Standing, func: Any, args: Any, kwargs: Any) -> Any:
        """Call an op in a thread of an earlier test; what it does there is no work of this test, or may be."""
        op = self.plain.get(func) or self.plain.setdefault(func, learn(func, self.costs))
        if standing == "unclear" and op.kind in ("counted", "unknown"):
            self._note_unknown(op, describe(op.name, args, kwargs), EARLIER_THREAD)
        return call(func, args, kwargs)

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
            return run_watched(func, args, kwargs or {}, self._inside_flow)
        except NotFollowed as reason:
            self._note_unknown(op, describe(op.name, args, kwargs), str(reason))
            return func(*args, **(kwargs or {}))

    @contextmanager
    def _inside_flow(self) -> Iterator[None]:
        # The captured functions of a higher-order op are modules to torch, and none to the test.
        with pushed(self), self.modules.graphs_unseen():
            yield

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
        if self.reports_to is not None:
            self.reports_to(place.op)
        total = self.sums.get(place)
        if total is None:
            total = self.sums[place] = Sum()
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
        self.note_unheard(op.name, call, reason)

    def note_unheard(self, name: str, call: str, reason: str) -> None:
        """Note work that no op call shows."""
        if self.reports_to is not None:
            self.reports_to(name)
        key = Unseen(Place(name, *self.modules.place()), call, reason)
        with self.lock:
            self.unknown[key] = self.unknown.get(key, 0) + 1

    def kind_of(self, func: OpOverload) -> str:
        """Classify an op."""
        return (self.plain.get(func) or self.plain.setdefault(func, learn(func, self.costs))).kind

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
