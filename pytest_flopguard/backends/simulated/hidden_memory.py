"""The words of the tables of hidden memory: what an entry gets, what it answers, and how an op is looked up."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from pytest_flopguard.backends.simulated.gpus import Gpu


@dataclass(frozen=True, slots=True, kw_only=True)
class UnknownWorkspace:
    """Memory that a kernel takes and that no source tells in full: why, and the part that is known, in bytes."""

    reason: str
    known: tuple[int, ...] = ()


Hidden = tuple[int, ...] | UnknownWorkspace


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """An op call as an entry sees it: arguments by position and by name, what it returned, and the GPU."""

    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    out: Any
    gpu: Gpu

    def argument(self, position: int, name: str, default: Any = None) -> Any:
        """Return an argument, given by position or by name."""
        return self.args[position] if len(self.args) > position else self.kwargs.get(name, default)


Entry = Callable[[Call], Hidden]


def size_of(tensor: torch.Tensor) -> int:
    """Bytes of a tensor's elements, laid out without gaps."""
    return tensor.numel() * tensor.element_size()


def copies(*tensors: Any) -> tuple[int, ...]:
    """Bytes of the copies that ``contiguous()`` makes of those that are not."""
    return tuple(size_of(each) for each in tensors if isinstance(each, torch.Tensor) and not each.is_contiguous())


def joined(*parts: Hidden) -> Hidden:
    """Return several kernels' hidden memory, alive together, as one."""
    known: list[int] = []
    reasons: list[str] = []
    for part in parts:
        if isinstance(part, UnknownWorkspace):
            reasons.append(part.reason)
            part = part.known
        known += part
    return UnknownWorkspace(reason="; ".join(reasons), known=tuple(known)) if reasons else tuple(known)
