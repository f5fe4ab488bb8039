"""Attention between its projections; each kind of attention says how it mixes."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def heads_of(x: Tensor, heads: int) -> Tensor:
    """[B, n, d] to [B, h, n, d/h]."""
    batch, length, width = x.shape
    return x.view(batch, length, heads, width // heads).transpose(1, 2)


def softmax_attention(q: Tensor, k: Tensor, v: Tensor, allowed: Tensor | None = None) -> Tensor:
    """Plain attention over the last two dimensions; ``allowed`` masks scores that are computed nevertheless."""
    scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
    if allowed is not None:
        scores = scores.masked_fill(~allowed, -torch.inf)
    return scores.softmax(-1) @ v


class ProjectedAttention(nn.Module):
    """q, k, v and o without biases around ``mix``; ``shared`` makes one projection of q and k."""

    def __init__(self, width: int, heads: int, *, shared: bool = False) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width, bias=False)
        self.key = None if shared else nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width, bias=False)
        self.out = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        query = self.query(x)
        q, k, v = (
            heads_of(each, self.heads) for each in (query, query if self.key is None else self.key(x), self.value(x))
        )
        return self.out(self.mix(q, k, v).transpose(1, 2).reshape(x.shape))

    def mix(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """[B, h, n, d/h] each, to the same shape."""
        raise NotImplementedError
