"""A model's state while something else than the test runs it: what that call changes is dropped afterwards."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import numpy
import torch
from torch import nn

from pytest_flopguard.backends.torch_api.dispatch import mode_stack, pop_mode, push_mode
from pytest_flopguard.backends.torch_api.modules import buffers_of, hooks_of


@contextmanager
def stand_in_state(model: nn.Module, inputs: Iterable[torch.Tensor]) -> Iterator[None]:
    """Lend the model copies of its buffers, and put random numbers and hooks back afterwards, also after an error.

    Dispatch modes that watch ops, ours or a test's own, do not see the call. Parameters are not copied: a forward
    call that writes to them is rare, and copies of them are large.
    """
    buffers = [(each, dict(buffers_of(each))) for each in model.modules()]
    hooks = [(table, set(table)) for each in model.modules() for table in hooks_of(each)]
    python, array = random.getstate(), numpy.random.get_state()
    copies: dict[int, torch.Tensor] = {}
    try:
        with torch.random.fork_rng(_cuda_devices(model, inputs)), _modes_put_aside():
            for module, originals in buffers:
                for name, buffer in originals.items():
                    if buffer is not None:
                        buffers_of(module)[name] = copies.setdefault(id(buffer), buffer.detach().clone())
            yield
    finally:
        for module, originals in buffers:
            buffers_of(module).clear()
            buffers_of(module).update(originals)
        for table, known in hooks:
            # fvcore leaves its hooks behind when the model raises.
            for key in set(table) - known:
                del table[key]
        random.setstate(python)
        numpy.random.set_state(array)


@contextmanager
def _modes_put_aside() -> Iterator[None]:
    # A trace that a mode interrupts takes weights for constants. torch's own modes (fake tensors) run the ops and stay.
    aside = []
    while (modes := mode_stack()) and not modes[-1].is_infra_mode():
        aside.append(pop_mode())
    try:
        yield
    finally:
        for mode in reversed(aside):
            push_mode(mode)


def _cuda_devices(model: nn.Module, inputs: Iterable[torch.Tensor]) -> list[int]:
    tensors = [*model.parameters(), *model.buffers(), *inputs]
    return sorted({each.get_device() for each in tensors if each.is_cuda})
