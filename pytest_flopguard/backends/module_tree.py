"""The parts of a module in one walk, since torch's own iterators walk the whole tree for each thing asked for."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn
from torch.nn.parameter import UninitializedTensorMixin  # type: ignore[attr-defined]

from pytest_flopguard.backends.torch_api.modules import buffers_of, children_of, parameters_of


def parts(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield each part with its dotted name, in the order and under the names of ``named_modules``."""
    seen: set[nn.Module] = set()
    pending = [("", module)]
    while pending:
        name, part = pending.pop()
        if part in seen:
            continue
        seen.add(part)
        yield name, part
        prefix = f"{name}." if name else ""
        pending += [
            (f"{prefix}{key}", child) for key, child in reversed(children_of(part).items()) if child is not None
        ]


def own_parameters(part: nn.Module) -> Iterator[nn.Parameter]:
    """Yield the parameters that a part holds itself and that have a shape already."""
    for parameter in parameters_of(part).values():
        if parameter is not None and not isinstance(parameter, UninitializedTensorMixin):
            yield parameter


def own_buffers(part: nn.Module) -> Iterator[torch.Tensor]:
    """Yield the buffers that a part holds itself and that have a shape already."""
    for buffer in buffers_of(part).values():
        if buffer is not None and not isinstance(buffer, UninitializedTensorMixin):
            yield buffer
