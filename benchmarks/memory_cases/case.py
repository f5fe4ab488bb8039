"""One program of the memory zoo, and what its steps are made of."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import nn


class Mark(Protocol):
    """Told at the end of each phase of a step, so that whoever measures can note a peak for each."""

    def __call__(self, phase: str, /) -> None:
        """The phase of this name has ended."""


Step = Callable[[Mark], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A program: ``build(device)`` makes its model and returns one step of it, which runs ``steps`` times.

    The first step holds what a fresh process adds (workspaces, optimizer state), the last one is warm. No case reads a
    value from the device, so the same code runs where tensors have none. ``library`` is what it needs beside torch.
    """

    name: str
    family: str
    build: Callable[[str], Step]
    steps: int
    library: str


class Zoo:
    """The cases of one file, in the order in which they stand there."""

    def __init__(self, *, library: str = "") -> None:
        self.library = library
        self.cases: list[Case] = []

    def case(self, family: str, *, steps: int = 3) -> Callable[[Callable[[str], Step]], Callable[[str], Step]]:
        """Add a function as a case under its own name."""

        def add(build: Callable[[str], Step]) -> Callable[[str], Step]:
            name = getattr(build, "__name__", "")
            self.cases.append(Case(name=name, family=family, build=build, steps=steps, library=self.library))
            return build

        return add


def training(
    loss: Callable[[], torch.Tensor],
    optimizer: torch.optim.Optimizer,
    *,
    autocast: torch.dtype | None = None,
    scaler: torch.amp.GradScaler | None = None,
    batches: int = 1,
    clip: Iterable[nn.Parameter] | None = None,
    set_to_none: bool = True,
) -> Step:
    """Return a training step: ``batches`` times forward and backward, then the optimizer."""
    clipped = None if clip is None else list(clip)

    def step(mark: Mark) -> None:
        for _ in range(batches):
            with mixed(autocast):
                value = loss()
            mark("forward")
            (value if scaler is None else scaler.scale(value)).backward()
            del value
            mark("backward")
        if clipped is not None:
            nn.utils.clip_grad_norm_(clipped, 1.0)
        if scaler is None:
            optimizer.step()
        else:
            scaler.step(optimizer)
            scaler.update()
        mark("optimizer")
        optimizer.zero_grad(set_to_none=set_to_none)
        mark("zero_grad")

    return step


def inference(forward: Callable[[], object], *, autocast: torch.dtype | None = None, mode: bool = False) -> Step:
    """Return a step that keeps nothing for backward: under ``no_grad``, or with ``mode`` under ``inference_mode``."""

    def step(mark: Mark) -> None:
        with torch.inference_mode() if mode else torch.no_grad(), mixed(autocast):
            result = forward()
            mark("forward")
            del result

    return step


def mixed(dtype: torch.dtype | None) -> contextlib.AbstractContextManager[object]:
    """Autocast to a dtype; None: full precision."""
    return contextlib.nullcontext() if dtype is None else torch.autocast("cuda", dtype=dtype)


def tokens(device: str, batch: int, length: int, vocabulary: int) -> torch.Tensor:
    """Random token ids."""
    return torch.randint(0, vocabulary, (batch, length), device=device)


def labels(device: str, batch: int, classes: int) -> torch.Tensor:
    """One random class for each sample."""
    return torch.randint(0, classes, (batch,), device=device)


def images(device: str, batch: int, size: int, *, channels: int = 3, last: bool = False) -> torch.Tensor:
    """Random square images; ``last``: channels innermost in memory."""
    made = torch.randn(batch, channels, size, size, device=device)
    return made.to(memory_format=torch.channels_last) if last else made
