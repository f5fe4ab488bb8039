"""The words of the tables of hidden memory: what an entry gets, what it answers, and how an op is looked up."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from pytest_flopguard.backends.simulated.gpus import Gpu


@dataclass(frozen=True, slots=True, kw_only=True)
class UnknownWorkspace:
    """Memory that a kernel takes and that no source states in full: why, and the part that is known, in bytes.

    ``most`` is a bound on the rest, None where there is none.
    """

    reason: str
    known: tuple[int, ...] = ()
    most: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EstimatedWorkspace:
    """Memory that a kernel takes by a rule that recordings of GPUs follow: the rule, and the bytes of each block."""

    rule: str
    blocks: tuple[int, ...]


Hidden = tuple[int, ...] | UnknownWorkspace | EstimatedWorkspace


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


# Kernels that take a few arrays of the size of their operands take less than this: cub sorts two pairs of keys and
# positions, 8 bytes each, and fused attention accumulates float32 gradients of its operands and keeps no scores.
_BYTES_AN_ELEMENT = 64
_FIXED_BYTES = 4 * 2**20  # counters, semaphores, the descriptors of a kernel


def few_arrays(*tensors: Any) -> int:
    """Return more bytes than a kernel takes that holds a few arrays of the size of these tensors."""
    elements = sum(each.numel() for each in tensors if isinstance(each, torch.Tensor))
    return elements * _BYTES_AN_ELEMENT + _FIXED_BYTES


def copies(*tensors: Any) -> tuple[int, ...]:
    """Bytes of the copies that ``contiguous()`` makes of those that are not."""
    return tuple(size_of(each) for each in tensors if isinstance(each, torch.Tensor) and not each.is_contiguous())


def joined(*parts: tuple[int, ...] | UnknownWorkspace) -> tuple[int, ...] | UnknownWorkspace:
    """Return several kernels' hidden memory, alive together, as one."""
    known: list[int] = []
    reasons: list[str] = []
    most: int | None = 0
    for part in parts:
        if isinstance(part, UnknownWorkspace):
            reasons.append(part.reason)
            most = None if most is None or part.most is None else most + part.most
            part = part.known
        known += part
    if not reasons:
        return tuple(known)
    return UnknownWorkspace(reason="; ".join(reasons), known=tuple(known), most=most)
