"""One program with its true FLOPs, and what programs are made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import torch
from torch import nn

Program = tuple[nn.Module, tuple[Any, ...]]
Shapes = Callable[..., int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A program and its truth. ``forward`` and ``backward`` are FLOPs, 1 multiply-add = 2.

    ``backward`` holds all that ``.sum().backward()`` of the outputs adds, work that checkpointing does again
    included; None: the program has no backward. ``grad=False`` runs it under ``torch.no_grad``.
    ``formulas`` are given to the counters that take formulas for custom ops; they get the shapes of the operands.
    """

    room: str
    name: str
    make: Callable[[], Program]
    forward: int
    backward: int | None
    grad: bool = True
    formulas: Mapping[str, Shapes] = field(default_factory=dict)

    def build(self) -> Program:
        """Make the module and its arguments, the same values each time."""
        torch.manual_seed(0)
        return self.make()


def case(
    name: str,
    forward: int,
    backward: int | None = None,
    *,
    only_forward: bool = False,
    grad: bool = True,
    formulas: Mapping[str, Shapes] | None = None,
) -> Callable[[Callable[[], Program]], Case]:
    """Make a case of a function. Backward is twice the forward unless it says otherwise.

    Twice: of an operand's product, one more product for each of its two gradients.
    """
    if backward is None:
        backward = 2 * forward
    has_backward = grad and not only_forward

    def mark(make: Callable[[], Program]) -> Case:
        return Case(
            room=make.__module__.rpartition(".")[2],
            name=name,
            make=make,
            forward=forward,
            backward=backward if has_backward else None,
            grad=grad,
            formulas=formulas or {},
        )

    return mark


def cases_of(room: ModuleType) -> list[Case]:
    """Return the cases of a module in the order in which they stand there."""
    return [each for each in vars(room).values() if isinstance(each, Case)]


class Function(nn.Module):
    """A function as a module, for counters that take only modules; ``parts`` are modules that it uses."""

    def __init__(self, function: Callable[..., Any], *parts: nn.Module) -> None:
        super().__init__()
        self.function = function
        self.parts = nn.ModuleList(parts)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function."""
        return self.function(*args, *kwargs.values())


def rand(*shape: int, dtype: torch.dtype = torch.float32, grad: bool = True) -> torch.Tensor:
    """Return random values that ask for a gradient."""
    return torch.randn(*shape, dtype=dtype).requires_grad_(grad)


def tokens(batch: int, length: int, vocabulary: int) -> torch.Tensor:
    """Return token ids."""
    return torch.randint(0, vocabulary, (batch, length))


def loss(output: Any) -> torch.Tensor:
    """Return the sum of every tensor of an output that has a gradient."""
    if isinstance(output, torch.Tensor):
        found: Sequence[torch.Tensor] = [output]
    else:
        found = [each for each in output if isinstance(each, torch.Tensor)]
    real = [torch.view_as_real(each) if each.is_complex() else each for each in found if each.requires_grad]
    return torch.stack([each.sum() for each in real]).sum()
