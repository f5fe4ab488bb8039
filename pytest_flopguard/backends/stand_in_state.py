"""A model's state while something else than the test runs it: what that call changes is dropped afterwards."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import numpy
import torch
from torch import nn


@contextmanager
def stand_in_state(model: nn.Module, inputs: Iterable[torch.Tensor]) -> Iterator[None]:
    """Lend the model copies of its buffers, and put random numbers and hooks back afterwards, also after an error.

    Parameters are not copied, since a forward call that writes to them is rare and copies of them are large.
    """
    buffers = [(each, dict(each._buffers)) for each in model.modules()]
    hooks = [
        (table, set(table)) for each in model.modules() for table in (each._forward_hooks, each._forward_pre_hooks)
    ]
    python, array = random.getstate(), numpy.random.get_state()
    copies: dict[int, torch.Tensor] = {}
    try:
        with torch.random.fork_rng(_cuda_devices(model, inputs)):
            for module, originals in buffers:
                for name, buffer in originals.items():
                    if buffer is not None:
                        module._buffers[name] = copies.setdefault(id(buffer), buffer.detach().clone())
            yield
    finally:
        for module, originals in buffers:
            module._buffers.clear()
            module._buffers.update(originals)
        for table, known in hooks:
            # fvcore leaves its hooks behind when the model raises.
            for key in set(table) - known:
                del table[key]
        random.setstate(python)
        numpy.random.set_state(array)


def _cuda_devices(model: nn.Module, inputs: Iterable[torch.Tensor]) -> list[int]:
    tensors = [*model.parameters(), *model.buffers(), *inputs]
    return sorted({each.get_device() for each in tensors if each.is_cuda})
