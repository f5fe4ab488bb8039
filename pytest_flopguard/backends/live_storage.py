"""The peak of live tensor storage bytes, by device and category, from the op calls that an OpWatch sees.

Exact and repeatable, on any machine: bytes are counted when an op returns a storage that was not there before, and
given back when the storage dies. What no op call shows is not in it: buffers inside kernels, and memory that is
not a tensor's. Storages that existed before the watch are found when they are first used, and count from the start.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor

from pytest_flopguard.backends.base import Unavailable
from pytest_flopguard.backends.constant_tensors import tensors
from pytest_flopguard.backends.data_holders import PLAIN, holders
from pytest_flopguard.backends.module_tree import own_buffers, own_parameters, parts
from pytest_flopguard.backends.op_watch import OpWatch
from pytest_flopguard.core.measurement import CATEGORIES, MemoryPeak

_running_node: Callable[[], Any] = torch._C._current_autograd_node  # None outside backward, which its stub denies
_LIFT = torch.ops.aten.lift_fresh.default  # torch.tensor([...]) makes its storage out of sight and shows it here
_GRADIENTS = {torch.ops.aten.detach.default, torch.ops.aten.clone.default}  # how AccumulateGrad takes a gradient
_BEFORE = -1


class _Live(weakref.ref["torch.UntypedStorage"]):
    """A weak reference to a storage, with what is known of it. Times are clock ticks; no death yet is None."""

    __slots__ = ("born", "category", "device", "died", "key", "size")
    born: int
    category: str
    device: str
    died: int | None
    key: int
    size: int

    def fill(self, key: int, size: int, device: str, category: str, born: int) -> None:
        """Set what is known of a storage that lives."""
        self.key, self.size, self.device, self.category = key, size, device, category
        self.born, self.died = born, None


class _Scope:
    """A region: bytes at its start, its peak, and the tick of its peak, by device."""

    def __init__(self, start: dict[str, int], tick: int) -> None:
        self.start = dict(start)
        self.peak = dict(start)
        self.peak_tick = dict.fromkeys(start, tick)
        self.began = tick

    def holds(self, live: _Live) -> bool:
        """Whether the storage was alive at this region's peak on its device."""
        tick = self.peak_tick.get(live.device, self.began)
        return live.born <= tick and (live.died is None or live.died > tick)


class LiveStorage:
    """The MemoryBackend for tensors of every device that has no allocator of its own to ask."""

    name = "live-storage"

    def __init__(self, watch: OpWatch) -> None:
        self._watch = watch
        self._entered_watch = False
        self._passes: dict[Any, bool] = {}  # ops that need no look
        self._clear()

    def _clear(self) -> None:
        self._live: dict[int, _Live] = {}
        self._dead: list[_Live] = []  # died, but alive at the peak of an open region
        self._current: dict[str, int] = {}
        self._scopes: list[_Scope] = []
        self._tick = 0
        self._opaque: set[str] = set()

    def __enter__(self) -> LiveStorage:
        self._clear()
        self._entered_watch = not self._watch.active
        if self._entered_watch:  # another engine counts the FLOPs
            self._watch.__enter__()
        self._watch.storages = self
        self._watch.modules.on_root.append(self._mark_module)
        self._watch.modules.on_step.append(self._mark_optimizer)
        return self

    def __exit__(self, *exc: object) -> None:
        self._watch.storages = None
        self._watch.modules.on_root.remove(self._mark_module)
        self._watch.modules.on_step.remove(self._mark_optimizer)
        if self._entered_watch:
            self._watch.__exit__(*exc)
        self._clear()

    def begin(self) -> _Scope:
        """Open a region at the bytes that live now."""
        with self._watch.lock:
            scope = _Scope(self._current, self._tick)
            self._scopes.append(scope)
            return scope

    def end(self, scope: _Scope) -> tuple[MemoryPeak, ...] | Unavailable:
        """Close a region: one peak for each device that held a storage, the largest first."""
        with self._watch.lock:
            return self._end(scope)

    def _end(self, scope: _Scope) -> tuple[MemoryPeak, ...] | Unavailable:
        for module in self._watch.modules.roots():
            self._mark_module(module)
        self._scopes.remove(scope)
        if self._opaque:
            kinds = ", ".join(sorted(self._opaque))
            return Unavailable(name=self.name, reason=f"the storage of these tensors cannot be followed: {kinds}")
        held = [each for each in (*self._live.values(), *self._dead) if scope.holds(each)]
        self._forget_dead()
        peaks = []
        for device in sorted(scope.peak, key=lambda name: (-scope.peak[name], name)):
            if not scope.peak[device] or device == "cuda":  # the CUDA allocator tells its own figures
                continue
            by_category = dict.fromkeys(CATEGORIES, 0)
            for each in held:
                if each.device == device:
                    by_category[each.category] += each.size
            peaks.append(
                MemoryPeak(
                    device=device,
                    backend=self.name,
                    start_bytes=scope.start.get(device, 0),
                    peak_bytes=scope.peak[device],
                    by_category=by_category,
                )
            )
        return tuple(peaks)

    def saw(self, makes_storage: bool, func: Any, args: Any, kwargs: Any, out: Any) -> None:
        """Follow one op call that has just returned."""
        if func is _LIFT:
            self._birth(out, "inputs")
            return
        passes = self._passes.get(func)
        if passes is None:
            # A view makes no storage and reads none: what it looks at is found when it is used.
            passes = self._passes[func] = getattr(func, "is_view", False) and func not in _GRADIENTS
        if passes:
            return
        had_tensor = False
        for value in (*args, *kwargs.values()) if kwargs else args:
            if isinstance(value, torch.Tensor):
                had_tensor = True
                self._find(value)
            elif isinstance(value, (list, tuple)):
                for tensor in tensors(value):
                    had_tensor = True
                    self._find(tensor)
        if makes_storage:
            category = self._category(had_tensor)
            if isinstance(out, torch.Tensor):
                self._birth(out, category)
            else:
                for tensor in tensors((out,)):
                    self._birth(tensor, category)
        if func in _GRADIENTS and isinstance(out, torch.Tensor):
            node = _running_node()
            if node is not None and node.name() == "torch::autograd::AccumulateGrad":
                self._mark(out, "gradients")

    def _category(self, had_tensor: bool) -> str:
        if _running_node() is not None:
            # With grad mode on in backward it is forward work again, whose results are kept for backward.
            return "activations" if torch.is_grad_enabled() else "temporaries"
        modules = self._watch.modules
        if modules.running:
            return "activations"
        if modules.stepping:
            return "temporaries"
        return "activations" if had_tensor else "inputs"

    def _storages(self, tensor: torch.Tensor) -> Sequence[tuple[torch.Tensor, torch.UntypedStorage]]:
        """Return what holds a tensor's data, most often itself; remembered is a tensor that cannot be followed."""
        if type(tensor) in PLAIN:
            try:
                return ((tensor, tensor.untyped_storage()),)
            except NotImplementedError:  # sparse, or of a layout that only its own kernels can read
                pass
        found = []
        for each in holders(tensor):
            try:
                found.append((each, each.untyped_storage()))
            except NotImplementedError:
                self._opaque.add(str(each.layout))
        return found

    def _find(self, tensor: torch.Tensor) -> None:
        """Take note of a tensor that is used; a storage that was never seen has been there from the start."""
        for each, storage in self._storages(tensor):
            self._entry(each, storage)

    def _entry(self, tensor: torch.Tensor, storage: torch.UntypedStorage) -> _Live:
        live = self._live.get(storage._cdata)
        if live is None:
            live = self._follow(tensor, storage, "inputs", _BEFORE)
            self._current[live.device] = self._current.get(live.device, 0) + live.size
            for scope in self._scopes:
                scope.start[live.device] = scope.start.get(live.device, 0) + live.size
                scope.peak[live.device] = scope.peak.get(live.device, 0) + live.size
        elif live.size != storage.nbytes():
            self._resize(live, storage)
        return live

    def _birth(self, tensor: torch.Tensor, category: str) -> None:
        for each, storage in self._storages(tensor):
            if storage._cdata not in self._live:
                self._tick += 1
                live = self._follow(each, storage, category, self._tick)
                self._grow(live.device, live.size)

    def _follow(self, tensor: torch.Tensor, storage: torch.UntypedStorage, category: str, born: int) -> _Live:
        device = f"fake:{tensor.device.type}" if isinstance(tensor, FakeTensor) else tensor.device.type
        live = _Live(storage, self._died)
        live.fill(storage._cdata, storage.nbytes(), device, category, born)
        self._live[live.key] = live
        return live

    def _grow(self, device: str, size: int) -> None:
        now = self._current[device] = self._current.get(device, 0) + size
        for scope in self._scopes:
            if now > scope.peak.get(device, -1):
                scope.peak[device] = now
                scope.peak_tick[device] = self._tick

    def _died(self, live: weakref.ref[Any]) -> None:
        assert isinstance(live, _Live)
        with self._watch.lock:  # a storage dies in any thread
            if self._live.get(live.key) is not live:
                return  # the watch that followed it is over
            del self._live[live.key]
            self._tick += 1
            self._current[live.device] -= live.size
            self._bury(live)

    def _bury(self, live: _Live) -> None:
        live.died = self._tick
        if any(scope.holds(live) for scope in self._scopes):
            self._dead.append(live)
            if len(self._dead) % 10_000 == 0:
                self._forget_dead()

    def _forget_dead(self) -> None:
        self._dead = [each for each in self._dead if any(scope.holds(each) for scope in self._scopes)]

    def _resize(self, live: _Live, storage: torch.UntypedStorage) -> None:
        """Follow a storage that has another size than when it was last used: the old size died, the new one is born."""
        self._tick += 1
        before = _Live(storage)
        before.fill(live.key, live.size, live.device, live.category, live.born)
        self._bury(before)
        live.fill(live.key, storage.nbytes(), live.device, live.category, self._tick)
        self._grow(live.device, live.size - before.size)

    def _mark(self, tensor: torch.Tensor, category: str) -> None:
        for each, storage in self._storages(tensor):
            self._entry(each, storage).category = category

    def _mark_module(self, module: nn.Module) -> None:
        for _, part in parts(module):
            for buffer in own_buffers(part):
                self._mark(buffer, "other")
            for parameter in own_parameters(part):
                self._mark(parameter, "parameters")
                if parameter.grad is not None:
                    self._mark(parameter.grad, "gradients")

    def _mark_optimizer(self, optimizer: torch.optim.Optimizer) -> None:
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._mark(parameter.grad, "gradients")
                for value in tensors(optimizer.state.get(parameter, {}).values()):
                    self._mark(value, "optimizer_state")
