"""The surroundings of a simulated device: fake tensors on "cuda", and a torch that believes in it."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import Any
from unittest.mock import patch

import torch
from torch import nn

from pytest_flopguard.backends.constant_tensors import reading_values
from pytest_flopguard.backends.constant_tensors import tensors as tensors_in
from pytest_flopguard.backends.simulated import (
    cuda_abi,
    data_loading,
    data_parallel,
    known_values,
    lazy_parameters,
    number_lists,
    printed,
)
from pytest_flopguard.backends.simulated.cuda_kernels import not_simulated
from pytest_flopguard.backends.simulated.repeated_calls import NEW, RepeatedCalls, known
from pytest_flopguard.backends.simulated.routing import routed
from pytest_flopguard.backends.simulated.torch_cuda import Device, replacements
from pytest_flopguard.backends.simulated.value_reads import refuse
from pytest_flopguard.backends.torch_api.fake import FakeTensor, FakeTensorMode, fake_tensor
from pytest_flopguard.backends.torch_api.late import DEVICE_MESH, MESH_METHODS
from pytest_flopguard.backends.torch_api.replaced import DEVICE_RESTORED
from pytest_flopguard.backends.torch_api.tensors import nested_tensor
from pytest_flopguard.backends.transformers_api import FAKE_TENSOR_CHECKS, IS_FAKE_TENSOR

# Frames of this module lie between those of the user: pytest leaves them out of tracebacks.
__tracebackhide__ = True


class SimulatedTensors(FakeTensorMode):
    """Fake tensors of a machine that has, as far as anybody can tell, a GPU; none is ever touched."""

    simulates = True  # what flopguard.simulated looks for, without importing this module

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # as OpWatch: nothing compiles here, and each call is spared a wrapper

    def __init__(self, adopt: Callable[[FakeTensor], None] | None = None) -> None:
        super().__init__(allow_non_fake_inputs=True, allow_fallback_kernels=False)
        self._repeated = RepeatedCalls(self)
        self._adopt = adopt

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Answer a call as fake tensors' mode does, sooner where the same has been asked before."""
        kwargs = kwargs or {}
        asked = self._repeated.key(func, args, kwargs)
        if asked is None and self._adopt is not None and self._adopted(args, kwargs):
            asked = self._repeated.key(func, args, kwargs)
        if asked is None:
            return super().__torch_dispatch__(func, types, args, kwargs)
        key, tensors = asked
        results = known(key)
        if results is not None and results is not NEW:
            return self._repeated.make(results, tensors)
        out = super().__torch_dispatch__(func, types, args, kwargs)
        if results is NEW:
            self._repeated.learn(key, func, args, kwargs, tensors, out)
        return out

    def _adopted(self, args: Any, kwargs: Any) -> bool:
        """Take over tensors that an earlier test left on its machine, such as the model of a shared fixture."""
        found = False
        for each in tensors_in((*args, *kwargs.values())):
            # What was made by a mode that does not simulate belongs to the program.
            if type(each) is FakeTensor and each.fake_mode is not self and isinstance(each.fake_mode, SimulatedTensors):
                each.fake_mode = self
                found = True
                if self._adopt is not None and each.fake_device.type == "cuda":
                    self._adopt(each)
        return found

    @property
    def avoid_device_init(self) -> bool:
        """Whether constants must not be moved to a device: always, since there is none."""
        return True


@contextmanager
def surroundings(device: Device, tensors: SimulatedTensors) -> Iterator[None]:
    """Let the block run on a simulated device; random numbers that it draws are put back."""
    with ExitStack() as stack:
        stack.enter_context(cuda_abi.active())
        stack.enter_context(torch.random.fork_rng(devices=()))
        own = (*_torch_itself(), _loading(device), *_device_meshes())
        for owner, name, replacement in (*replacements(device), *own, *_libraries()):
            stack.enter_context(patch.object(owner, name, replacement))
        for owner, name, replacement in data_parallel.REPLACEMENTS:
            stack.enter_context(patch.object(owner, name, replacement, create=True))
        stack.enter_context(routed(device.gpu))
        stack.enter_context(tensors)
        yield


def _torch_itself() -> Iterator[tuple[Any, str, Any]]:
    yield fake_tensor, "init_gpu_context", lambda *_: None
    # As torch.utils.swap_tensors, which refuses tensors with weak references, as fake tensors' own mode has.
    yield torch.utils, "swap_tensors", lazy_parameters.exchange
    yield from lazy_parameters.replacements()
    yield from data_loading.replacements()
    yield torch.Tensor, "numpy", _numpy
    yield from number_lists.replacements()
    yield FakeTensor, "__deepcopy__", _copied
    yield nested_tensor, "get_tensor_symint", _jagged
    yield FakeTensor, "__reduce_ex__", _reduced
    yield FakeTensor, "__repr__", printed.text
    yield FakeTensor, "__format__", printed.formatted


def _loading(device: Device) -> tuple[Any, str, Any]:
    # torch.load says at the end on which device a fake tensor is, and no op call shows that.
    restore: Any = getattr(*DEVICE_RESTORED)

    def restored(tensor: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = restore(tensor)
        device.arrived(found)
        return found

    return (*DEVICE_RESTORED, restored)


def _device_meshes() -> Iterator[tuple[Any, str, Any]]:
    # The ranks of a mesh are numbers that torch reads, not tensors of the device.
    meshes = sys.modules.get(DEVICE_MESH)
    mesh = getattr(meshes, "DeviceMesh", None)
    for name in MESH_METHODS:
        if hasattr(mesh, name):
            yield mesh, name, _without_modes(inspect.getattr_static(mesh, name))


def _without_modes(method: Any) -> Any:
    function = getattr(method, "__func__", method)

    @wraps(function)
    def called(*args: Any, **kwargs: Any) -> Any:
        with reading_values():
            return function(*map(_with_values, args), **{name: _with_values(each) for name, each in kwargs.items()})

    return type(method)(called) if isinstance(method, (staticmethod, classmethod)) else called


def _with_values(given: Any) -> Any:
    known = known_values.value(given) if isinstance(given, FakeTensor) else None
    return given if known is None else known


def _libraries() -> Iterator[tuple[Any, str, Any]]:
    # transformers builds other masks for fake tensors than it would build on a GPU.
    for place in FAKE_TENSOR_CHECKS:
        module = sys.modules.get(place)
        if module is not None and hasattr(module, IS_FAKE_TENSOR):
            yield module, IS_FAKE_TENSOR, lambda x: False


_real_numpy = torch.Tensor.numpy


def _numpy(tensor: torch.Tensor, *, force: bool = False) -> Any:
    known = known_values.value(tensor)
    if known is None:
        raise refuse("the values")
    with reading_values():
        return _real_numpy(known, force=force)


def _jagged(*_: Any, **__: Any) -> Any:
    raise not_simulated("torch.nested", "the lengths of jagged tensors are values")


_real_reduce: Any = torch.Tensor.__reduce_ex__


def _reduced(tensor: torch.Tensor, protocol: Any) -> Any:
    if sys._getframe(1).f_globals.get("__name__") == "copy":  # a shallow copy looks at the same memory
        return _real_reduce(tensor, protocol)
    known = known_values.value(tensor)
    if known is None:
        raise refuse("the values, to save them,")
    with reading_values():
        return _real_reduce(known, protocol)


def _copied(tensor: torch.Tensor, memo: dict[int, Any]) -> torch.Tensor:
    # As Tensor.__deepcopy__, which looks for the memory of tensors that have none, and crashes on what it finds.
    if not tensor.is_leaf:
        raise RuntimeError("Only Tensors created explicitly by the user (graph leaves) support the deepcopy protocol")
    found = memo.get(id(tensor))
    if not isinstance(found, torch.Tensor):
        found = tensor.detach().clone(memory_format=torch.preserve_format).requires_grad_(tensor.requires_grad)
        if isinstance(tensor, nn.Parameter):
            found = nn.Parameter(found.detach(), tensor.requires_grad)
        memo[id(tensor)] = found
        if tensor.grad is not None:
            found.grad = _copied(tensor.grad, memo)
    return found
