"""The peak of live tensor storage bytes, by device and category, from the op calls that an OpWatch sees.

Exact and repeatable, on any machine: bytes are counted when an op returns a storage that was not there before, and
given back when the storage dies. Storages that are made or resized without an op call are noticed (storage_changes).
Buffers inside kernels and memory that is not a tensor's are not counted. Storages that existed before the watch are
found when they are first used, and count from the start.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch

from pytest_flopguard.backends.base import Unavailable
from pytest_flopguard.backends.block_listener import BlockListener
from pytest_flopguard.backends.constant_tensors import tensors
from pytest_flopguard.backends.data_holders import PLAIN, holders
from pytest_flopguard.backends.op_watch import OpWatch
from pytest_flopguard.backends.storage_changes import heard
from pytest_flopguard.backends.storage_roles import GRADIENTS, RESTING, Role, StorageRoles
from pytest_flopguard.backends.timeline import Timeline
from pytest_flopguard.backends.torch_api.fake import FakeTensor
from pytest_flopguard.backends.torch_api.tensors import address_of
from pytest_flopguard.core.measurement import CATEGORIES, MemoryPeak
from pytest_flopguard.core.owners import merged, summed

_LIFT = torch.ops.aten.lift_fresh.default  # torch.tensor([...]) makes its storage out of sight and shows it here
_BEFORE = -1
_FLAT = Timeline(0, 0)


class _Live(weakref.ref["torch.UntypedStorage"]):
    """A weak reference to a storage, with what is known of it. Times are clock ticks; no death yet is None."""

    __slots__ = ("born", "device", "died", "key", "role", "size")
    born: int
    device: str
    died: int | None
    key: int
    role: Role
    size: int

    def fill(self, key: int, size: int, device: str, role: Role, born: int) -> None:
        """Set what is known of a storage that lives."""
        self.key, self.size, self.device, self.role = key, size, device, role
        self.born, self.died = born, None


class _Scope:
    """A region: bytes at its start, its peak, the tick of its peak, and its growth over time, by device."""

    def __init__(self, start: dict[str, int], tick: int) -> None:
        self.start = dict(start)
        self.peak = dict(start)
        self.peak_tick = dict.fromkeys(start, tick)
        self.began = tick
        self.timelines: dict[str, Timeline] = {}
        self.unheard: set[str] = set()

    def found(self, device: str, size: int) -> None:
        """Take in bytes that were there before the region."""
        self.start[device] = self.start.get(device, 0) + size
        self.peak[device] = self.peak.get(device, 0) + size

    def changed(self, device: str, now: int, tick: int) -> None:
        """Take in the bytes of a device from a tick on."""
        if now > self.peak.get(device, -1):
            self.peak[device] = now
            self.peak_tick[device] = tick
        timeline = self.timelines.get(device)
        if timeline is None:
            timeline = self.timelines[device] = Timeline(0, 0)
        # What was there before may show later: the growth stays as it is then, and the start moves.
        timeline.add(tick - self.began, now - self.start.get(device, 0))

    def timeline(self, device: str) -> tuple[tuple[int, int], ...]:
        """Return the bytes of a device over time."""
        return self.timelines.get(device, _FLAT).points(self.start.get(device, 0))

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
        self._blocks: BlockListener | None = None
        self._roles = StorageRoles(watch.modules, self._mark, self._role_of)
        self._entered = ExitStack()
        self._clear()

    def _clear(self) -> None:
        self._live: dict[int, _Live] = {}
        self._dead: list[_Live] = []  # died, but alive at the peak of an open region
        self._current: dict[str, int] = {}
        self._scopes: list[_Scope] = []
        self._tick = 0
        self._growing = False
        self._late: list[_Live] = []  # died while the scopes were told of another storage
        self._opaque: set[str] = set()
        self._making = 0  # calls in progress that make storages out of sight
        # Storages on "meta", which may be those of fake tensors: their first tensor knows the device. The size is what
        # they had before anybody looked, None for those that were made since.
        self._without_device: dict[int, tuple[weakref.ref[torch.UntypedStorage], int | None]] = {}

    def __enter__(self) -> LiveStorage:
        self._clear()
        self._entered_watch = not self._watch.active
        if self._entered_watch:  # another engine counts the FLOPs
            self._watch.__enter__()
        self._watch.storages = self
        self._entered.enter_context(self._roles)
        self._entered.enter_context(heard(self))
        return self

    def __exit__(self, *exc: object) -> None:
        self._watch.storages = None
        self._entered.close()
        if self._entered_watch:
            self._watch.__exit__(*exc)
        self._clear()

    def record_sites(self, root: Path | None) -> None:
        """From now on tell the line of code that made a storage, paths as seen from a folder; None stops it."""
        self._roles.record_sites(root)

    def tell_blocks(self, listener: BlockListener | None) -> None:
        """From now on tell somebody of storages and of op calls; None stops it."""
        with self._watch.lock:
            self._blocks = listener
            for live in list(self._live.values()):
                storage = live()
                if listener is not None and storage is not None and live.device == listener.kind:
                    listener.follow(live, storage)

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
        self._roles.mark_roots()
        self._scopes.remove(scope)
        if self._opaque:
            kinds = ", ".join(sorted(self._opaque))
            return Unavailable(name=self.name, reason=f"the storage of these tensors cannot be followed: {kinds}")
        if scope.unheard:
            names = ", ".join(sorted(scope.unheard))
            return Unavailable(name=self.name, reason=f"no op call shows the tensors that these make: {names}")
        held = [each for each in (*self._live.values(), *self._dead) if scope.holds(each)]
        self._forget_dead()
        peaks = []
        for device in sorted(scope.peak, key=lambda name: (-scope.peak[name], name)):
            if not scope.peak[device] or device == "cuda":  # the CUDA allocator tells its own figures
                continue
            here = [each for each in held if each.device == device and each.size]
            owners = merged(each.role.owner(each.size) for each in here)
            last = max(here, key=lambda each: each.born)
            by_category = dict.fromkeys(CATEGORIES, 0) | summed(owners, lambda owner: owner.category)
            peaks.append(
                MemoryPeak(
                    device=device,
                    backend=self.name,
                    start_bytes=scope.start.get(device, 0),
                    peak_bytes=scope.peak[device],
                    by_category=by_category,
                    owners=owners,
                    timeline=scope.timeline(device),
                    phase=last.role.phase if last.born > scope.began else None,
                )
            )
        return tuple(peaks)

    def lose(self, name: str) -> None:
        """Take note that something ran whose tensors no op call shows."""
        with self._watch.lock:
            for scope in self._scopes:
                scope.unheard.add(name)

    def saw(self, makes_storage: bool, func: Any, args: Any, kwargs: Any, out: Any) -> None:
        """Follow one op call that has just returned."""
        if func is _LIFT:
            self._birth(out, self._roles.lifted(func))
            return
        passes = self._passes.get(func)
        if passes is None:
            # A view makes no storage and reads none: what it looks at is found when it is used.
            passes = self._passes[func] = getattr(func, "is_view", False) and func not in GRADIENTS
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
            role = self._roles.made(func, had_tensor)
            if isinstance(out, torch.Tensor):
                self._birth(out, role)
            else:
                for tensor in tensors((out,)):
                    self._birth(tensor, role)
        if self._blocks is not None and self._blocks.allocated():
            self._blocks.ran(self._roles.made(func, had_tensor))
        if func in GRADIENTS:
            self._roles.look_for_gradient(func, out)

    def made(self, storage: torch.UntypedStorage) -> None:
        """Follow a storage that was made without an op call."""
        with self._watch.lock:
            if address_of(storage) in self._live:
                return
            if storage.device.type == "meta":
                self._without_device[address_of(storage)] = weakref.ref(storage), None
            else:
                self._give_birth(storage.device.type, storage, self._roles.made(None, False))

    def resized(self, storage: torch.UntypedStorage, before: int) -> None:
        """Follow a storage that was resized without an op call."""
        with self._watch.lock:
            live = self._live.get(address_of(storage))
            if live is not None:
                self._resize(live, storage)
            elif storage.device.type == "meta":
                self._without_device.setdefault(address_of(storage), (weakref.ref(storage), before))
            else:
                self._resize(self._discover(storage.device.type, storage, before), storage)

    @contextmanager
    def making(self, storage: torch.UntypedStorage | None) -> Iterator[None]:
        """Take storages that first show in the block for new ones, except for this one."""
        with self._watch.lock:
            if storage is not None and address_of(storage) not in self._live and storage.device.type != "meta":
                self._discover(storage.device.type, storage, storage.nbytes())
        self._making += 1
        try:
            yield
        finally:
            self._making -= 1

    def _storages(self, tensor: torch.Tensor) -> Sequence[tuple[torch.Tensor, torch.UntypedStorage]]:
        """Return what holds a tensor's data, most often itself; remembered is a tensor that cannot be followed."""
        if isinstance(tensor, FakeTensor) and not isinstance(tensor.untyped_storage().nbytes(), int):
            return ()  # its size is a symbol, and comparing it would fix what the symbol may stand for
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
        live = self._live.get(address_of(storage))
        if live is None:
            seen, before = self._without_device.pop(address_of(storage), (None, storage.nbytes()))
            if seen is not None and seen() is not storage:
                before = storage.nbytes()  # another storage, which has died, was at this address
            device = _device(tensor)
            if before is None or self._making:
                return self._give_birth(device, storage, self._roles.made(None, False))
            live = self._discover(device, storage, before)
        if live.size != storage.nbytes():
            self._resize(live, storage)
        return live

    def _birth(self, tensor: torch.Tensor, role: Role) -> None:
        for each, storage in self._storages(tensor):
            if address_of(storage) not in self._live:
                self._give_birth(_device(each), storage, role)

    def _give_birth(self, device: str, storage: torch.UntypedStorage, role: Role) -> _Live:
        """Follow a storage that is new."""
        self._tick += 1
        live = self._follow(device, storage, storage.nbytes(), role, self._tick)
        self._grow(live.device, live.size)
        return live

    def _discover(self, device: str, storage: torch.UntypedStorage, size: int) -> _Live:
        """Follow a storage that was there, with so many bytes, before anybody looked."""
        live = self._follow(device, storage, size, RESTING, _BEFORE)
        self._current[device] = self._current.get(device, 0) + size
        for scope in self._scopes:
            scope.found(device, size)
        return live

    def _follow(self, device: str, storage: torch.UntypedStorage, size: int, role: Role, born: int) -> _Live:
        live = _Live(storage, self._died)
        live.fill(address_of(storage), size, device, role, born)
        self._live[live.key] = live
        if self._blocks is not None and device == self._blocks.kind:
            self._blocks.follow(live, storage)
        return live

    def _grow(self, device: str, size: int) -> None:
        self._current[device] = self._current.get(device, 0) + size
        # Python may collect garbage at any call: what dies then must wait until every scope has the same number.
        self._growing = True
        for scope in self._scopes:
            scope.changed(device, self._current[device], self._tick)
        self._growing = False
        while self._late:
            self._let_go(self._late.pop(0))

    def _died(self, live: weakref.ref[Any]) -> None:
        assert isinstance(live, _Live)
        with self._watch.lock:  # a storage dies in any thread
            if self._growing:
                self._late.append(live)
            else:
                self._let_go(live)

    def _let_go(self, live: _Live) -> None:
        if self._live.get(live.key) is not live:
            return  # the watch that followed it is over
        del self._live[live.key]
        self._tick += 1
        self._bury(live)
        self._grow(live.device, -live.size)

    def _bury(self, live: _Live) -> None:
        live.died = self._tick
        if any(scope.holds(live) for scope in self._scopes):
            self._dead.append(live)
            if len(self._dead) % 10_000 == 0:
                self._forget_dead()

    def _forget_dead(self) -> None:
        self._dead = [each for each in self._dead if any(scope.holds(each) for scope in self._scopes)]

    def _resize(self, live: _Live, storage: torch.UntypedStorage) -> None:
        """Follow a storage that has another size than when it was last seen: the new size is born, the old one dies.

        Both are alive at once, since the values are copied (aten/src/ATen/native/Resize.cpp, resize_bytes_cpu).
        """
        self._tick += 1
        before = _Live(storage)
        before.fill(live.key, live.size, live.device, live.role, live.born)
        live.fill(live.key, storage.nbytes(), live.device, self._roles.resized(live.role), self._tick)
        self._grow(live.device, live.size)
        self._tick += 1
        self._bury(before)
        self._grow(live.device, -before.size)
        if self._blocks is not None and live.device == self._blocks.kind:
            self._blocks.follow(live, storage)

    def _mark(self, tensor: torch.Tensor, category: str, module: str | None) -> None:
        for each, storage in self._storages(tensor):
            live = self._entry(each, storage)
            live.role = live.role.as_category(category, module)

    def _role_of(self, tensor: torch.Tensor) -> Role | None:
        for _, storage in self._storages(tensor):
            live = self._live.get(address_of(storage))
            return None if live is None else live.role
        return None


def _device(tensor: torch.Tensor) -> str:
    return f"fake:{tensor.device.type}" if isinstance(tensor, FakeTensor) else tensor.device.type
