"""Torch modules for a written-down stack of layers: what a closed form speaks of, to be run."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor, nn


class Residual(nn.Module):
    """A branch and a shortcut, added."""

    def __init__(self, branch: nn.Module, shortcut: nn.Module) -> None:
        super().__init__()
        self.branch, self.shortcut = branch, shortcut

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.branch(x) + self.shortcut(x))


def built(layers: Sequence[Any], channels: int, size: tuple[int, ...]) -> tuple[nn.Sequential, int, tuple[int, ...]]:
    """The modules on the meta device, and what comes out of them, as torch says."""
    dims = len(size)
    conv, pool, pool_to = (
        getattr(nn, f"{name}{dims}d") if dims else None for name in ("Conv", "MaxPool", "AdaptiveAvgPool")
    )
    modules: list[nn.Module] = []
    with torch.device("meta"), torch.no_grad():
        for layer in layers:
            kind = type(layer).__name__
            if kind == "Conv":
                sizes = (channels, layer.outputs, layer.kernel, layer.stride, layer.padding)
                module = nn.Sequential(conv(*sizes, groups=layer.groups), nn.ReLU())
            elif kind == "Pool":
                module = pool(layer.kernel, layer.stride, layer.padding)
            elif kind == "PoolTo":
                module = pool_to(layer.size)
            elif kind == "Dense":
                module = nn.Sequential(nn.Flatten(), nn.Linear(channels * prod(size), layer.outputs))
            else:
                module = Residual(*(built(each, channels, size)[0] for each in (layer.branch, layer.shortcut)))
            modules.append(module)
            _, channels, *size = module(torch.empty(1, channels, *size)).shape
    return nn.Sequential(*modules), channels, tuple(size)
