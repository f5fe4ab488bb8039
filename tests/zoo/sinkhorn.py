"""Sparse Sinkhorn attention: blocks of keys and values are sorted softly to the blocks of queries.

Tay et al. 2020, Sparse Sinkhorn Attention, arXiv 2002.11296, sections 3.1 and 3.2.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from zoo.projected_attention import ProjectedAttention, softmax_attention


class SinkhornAttention(ProjectedAttention):
    """A linear sorting network for each head on summed blocks, balanced by Sinkhorn's iterations."""

    def __init__(self, width: int, heads: int, blocks: int, rounds: int = 5) -> None:
        super().__init__(width, heads)
        self.blocks, self.rounds = blocks, rounds
        self.sort = nn.Parameter(torch.randn(heads, width // heads, blocks))

    def mix(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (each.unflatten(2, (self.blocks, -1)) for each in (q, k, v))
        logits = k.sum(3) @ self.sort
        for _ in range(self.rounds):
            logits = logits - logits.logsumexp(-1, keepdim=True)
            logits = logits - logits.logsumexp(-2, keepdim=True)
        order = logits.exp()
        sorted_k, sorted_v = ((order @ each.flatten(3)).view_as(each) for each in (k, v))
        return softmax_attention(q, torch.cat((k, sorted_k), 3), torch.cat((v, sorted_v), 3)).flatten(2, 3)
