"""Fake CUDA tensors on a given GPU, without allocator and lifetimes, for tests of what such a GPU would run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from pytest_flopguard.backends.simulated import cuda_abi
from pytest_flopguard.backends.simulated.gpus import gpu_named
from pytest_flopguard.backends.simulated.routing import routed

# Bookkeeping that says nothing of the way that an op took.
_QUIET = ("prim::", "profiler::", "aten::detach", "aten::empty")


class Fakes(FakeTensorMode):
    """Fake tensors that never look for a device."""

    @property
    def avoid_device_init(self) -> bool:
        return True


class Seen(TorchDispatchMode):
    """Notes the names of the ops that a device would run; in inference mode composite ops are taken apart."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if torch.is_inference_mode_enabled() and func.namespace == "aten" and func._can_decompose():
            with self:
                out = func.decompose(*args, **(kwargs or {}))
            if out is not NotImplemented:
                return out
        name = func._schema.name
        if not name.startswith(_QUIET):
            self.names.append(name.removeprefix("aten::"))
        return func(*args, **(kwargs or {}))


@contextmanager
def gpu(name: str) -> Iterator[None]:
    """Fake CUDA tensors of a GPU by name."""
    with cuda_abi.active(), routed(gpu_named(name)), Fakes(allow_non_fake_inputs=True):
        yield


def ops_of(name: str, function: Callable[[], Any]) -> list[str]:
    """Return the ops that a function runs on a GPU by name."""
    with gpu(name), Seen() as seen:
        function()
    return seen.names
