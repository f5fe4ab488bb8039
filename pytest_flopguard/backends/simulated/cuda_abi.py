"""Lets fake "cuda" tensors train where there is no GPU: forward, backward and optimizer, under FakeTensorMode.

Without a GPU torch stops a backward over fake CUDA tensors. A ``+cpu`` wheel has no device guard for CUDA ("PyTorch is
not linked with support for cuda devices") and hooks that say that CUDA was never built ("Cannot access accelerator
device when none is available"); a CUDA wheel has hooks that refuse every device index ("hasPrimaryContext expects a
valid device index"). While ``active``, CUDA's device guard is the no-op one that torch itself keeps for fake tensors,
and the hooks answer isBuilt with true and hasPrimaryContext with false.

This is private ABI and the only place that touches it: slots and sizes come from the wheel's own headers and symbol
tables, functions are torch's own (a Python callback would run in threads without an interpreter), and self_check.py
tries it all in a child process first.
"""

from __future__ import annotations

import ctypes
import platform
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from pytest_flopguard.backends.base import Unavailable
from pytest_flopguard.backends.simulated.cxx_headers import FactMissing, data_members, enum_values, virtual_slots
from pytest_flopguard.backends.simulated.symbol_table import address, library, size_at
from pytest_flopguard.backends.torch_api.cuda import GUARD_SETTER, set_device_guard
from pytest_flopguard.backends.torch_api.dispatch import disable_current_modes, without_torch_function

NAME = "simulated"

_REGISTRY = "_ZN3c104impl26device_guard_impl_registryE"
_GET_HOOKS = "_ZN2at6detail12getCUDAHooksEv"
_HOOKS_TABLE = "_ZTVN2at18CUDAHooksInterfaceE"
_WORD = ctypes.sizeof(ctypes.c_void_p)
# The Itanium C++ ABI puts two words, offset-to-top and type info, before the first slot of a virtual table.
_PREFIX = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the headers of the wheel say: device numbers, and the slots of two virtual tables."""

    cpu: int
    cuda: int
    device_types: int
    guard: dict[str, int]
    hooks: dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Switch:
    """Two pointers inside torch, and what they hold while simulated tensors are in use."""

    guard: ctypes.c_void_p
    hooks: ctypes.c_void_p
    fake_guard: int
    fake_hooks: int


_lock = threading.Lock()
_installed: _Switch | Unavailable | None = None
_depth = 0
_before: tuple[int | None, int | None] = (None, None)


def install() -> Unavailable | None:
    """Prepare, once a process, what ``active`` switches. It may come at any time, also after a real backward.

    Nothing changes for the process yet: guard and hooks stay as they were.
    """
    global _installed
    with _lock:
        if _installed is None:
            try:
                _installed = _prepare()
            except FactMissing as missing:
                _installed = Unavailable(name=NAME, reason=f"torch {torch.__version__}: {missing}")
        return _installed if isinstance(_installed, Unavailable) else None


@contextmanager
def active() -> Iterator[None]:
    """Make fake CUDA tensors trainable within the block; it nests. Raises RuntimeError where ``install`` cannot.

    Backward runs in the thread that calls it: no engine thread is ever started, so it does not matter what ran first,
    forks stay possible, and nothing is waited for when the process exits. In another thread, which has not entered
    this, torch refuses the backward of a simulated tensor.
    """
    global _depth, _before
    install()
    if not isinstance(_installed, _Switch):
        raise RuntimeError(_installed.reason if _installed is not None else "nothing was installed")
    switch = _installed
    with torch.autograd.set_multithreading_enabled(False):
        with _lock:
            if _depth == 0:
                _before = (switch.guard.value, switch.hooks.value)
                switch.guard.value, switch.hooks.value = switch.fake_guard, switch.fake_hooks
            _depth += 1
        try:
            yield
        finally:
            with _lock:
                _depth -= 1
                if _depth == 0:
                    switch.guard.value, switch.hooks.value = _before


def read_facts(include: Path) -> Facts:
    """Read all facts from a wheel's include folder. Raises FactMissing."""
    devices = enum_values(include / "torch/headeronly/core/DeviceType.h", "DeviceType")
    base = virtual_slots(include / "ATen/detail/AcceleratorHooksInterface.h", "AcceleratorHooksInterface")
    hooks = base | virtual_slots(include / "ATen/detail/CUDAHooksInterface.h", "CUDAHooksInterface", base)
    guard = virtual_slots(include / "c10/core/impl/DeviceGuardImplInterface.h", "DeviceGuardImplInterface")
    state = data_members(include / "c10/core/impl/FakeGuardImpl.h", "FakeGuardImpl")
    if state:
        raise FactMissing(f"its FakeGuardImpl has state now: {', '.join(state)}")
    for known, names in (
        (devices, ("CPU", "CUDA", "COMPILE_TIME_MAX_DEVICE_TYPES")),
        (hooks, ("isBuilt", "hasPrimaryContext", "hasROCM")),
        (guard, ("queryStream", "deviceCount")),
    ):
        for name in names:
            if name not in known:
                raise FactMissing(f"its headers no longer declare {name}")
    return Facts(
        cpu=devices["CPU"],
        cuda=devices["CUDA"],
        device_types=devices["COMPILE_TIME_MAX_DEVICE_TYPES"],
        guard=guard,
        hooks=hooks,
    )


def _prepare() -> _Switch:
    if sys.platform != "linux" or _WORD != 8:
        raise FactMissing(f"fake CUDA tensors can be trained on 64-bit Linux only, not on {platform.platform()}")
    if torch.version.hip is not None:
        raise FactMissing("a ROCm build has other hooks")
    if set_device_guard is None:
        raise FactMissing(f"it has no {GUARD_SETTER}")
    root = Path(torch.__file__).parent
    facts = read_facts(root / "include")
    _size_the_engine()
    c10, libtorch = library(root / "lib/libc10.so"), library(root / "lib/libtorch_cpu.so")
    registry = address(c10, _REGISTRY)
    _agree("device types", facts.device_types, registry)
    _agree("CUDA hooks", _PREFIX + len(facts.hooks), address(libtorch, _HOOKS_TABLE))
    guard = ctypes.c_void_p.from_address(registry + facts.cuda * _WORD)
    cpu_guard = ctypes.c_void_p.from_address(registry + facts.cpu * _WORD).value
    hooks_object = ctypes.CFUNCTYPE(ctypes.c_void_p)(address(libtorch, _GET_HOOKS))()
    if not cpu_guard or not hooks_object:
        raise FactMissing("it has no device guard for the CPU, or no CUDA hooks")
    hooks = ctypes.c_void_p.from_address(hooks_object)
    native_false = _constant(hooks_object, facts.hooks["hasROCM"], False)
    native_true = _constant(cpu_guard, facts.guard["queryStream"], True)
    return _Switch(
        guard=guard,
        hooks=hooks,
        fake_guard=_guard_for_fakes(guard, len(facts.guard), native_false),
        fake_hooks=_fake_hooks(hooks, facts.hooks, {"isBuilt": native_true, "hasPrimaryContext": native_false}),
    )


def _agree(what: str, words: int, where: int) -> None:
    # A header that is not of this build, or that was not understood, shows as another size in the symbol table.
    size = size_at(where)
    if size is not None and size != words * _WORD:
        raise FactMissing(f"{what}: {words} words by the header, {size // _WORD} in the library")


def _constant(this: int, slot: int, answer: bool) -> int:
    # Both methods that are borrowed ignore their arguments; asking them shows that the slot is the one meant.
    table = ctypes.c_void_p.from_address(this).value or 0
    function = ctypes.c_void_p.from_address(table + slot * _WORD).value or 0
    if ctypes.CFUNCTYPE(ctypes.c_bool, ctypes.c_void_p, ctypes.c_void_p)(function)(this, None) is not answer:
        raise FactMissing(f"virtual method {slot} does not answer {answer}")
    return function


def _size_the_engine() -> None:
    # The engine counts devices at the process's first backward, and starts a thread for each, which forbids forks.
    # Done here, while no simulated device is to be seen, it starts none that a real backward would not have started.
    # Nobody who watches is to see it.
    with disable_current_modes(), without_torch_function(), torch.inference_mode(False), torch.enable_grad():
        leaf = torch.ones(1, device="cpu", requires_grad=True)
        torch.autograd.backward([leaf * 2], [torch.ones(1, device="cpu")])


def _guard_for_fakes(guard: ctypes.c_void_p, slots: int, zero: int) -> int:
    # torch makes its no-op guard only in place of one that counts no device: show it such a one for a moment.
    table = (ctypes.c_void_p * slots)(*[zero] * slots)
    stub = ctypes.c_void_p(ctypes.addressof(table))
    before = guard.value
    before_table = ctypes.c_void_p.from_address(before).value if before else None
    guard.value = ctypes.addressof(stub)
    assert set_device_guard is not None
    set_device_guard()
    made, guard.value = guard.value, before
    if not made or made == ctypes.addressof(stub):
        raise FactMissing(f"{GUARD_SETTER} sets no guard for fake tensors")
    made_table = ctypes.c_void_p.from_address(made)
    if made_table.value == before_table:
        # A FakeTensorMode of before had set one already; torch 2.11 has just freed that in favour of the new one.
        guard.value = made
    # torch 2.11 frees its guard with the thread that made it. The class has no state, so a copy is one word.
    return _copy(ctypes.addressof(made_table), _WORD)


def _fake_hooks(hooks: ctypes.c_void_p, slots: dict[str, int], answers: dict[str, int]) -> int:
    table = _copy((hooks.value or 0) - _PREFIX * _WORD, (_PREFIX + len(slots)) * _WORD) + _PREFIX * _WORD
    for name, function in answers.items():
        ctypes.c_void_p.from_address(table + slots[name] * _WORD).value = function
    return table


def _copy(source: int, size: int) -> int:
    # Static destructors may still ask guard and hooks after Python is gone: this memory is never given back.
    allocate = ctypes.pythonapi.PyMem_RawMalloc
    allocate.argtypes, allocate.restype = [ctypes.c_size_t], ctypes.c_void_p
    copy = int(allocate(size))
    ctypes.memmove(copy, source, size)
    return copy
