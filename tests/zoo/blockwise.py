"""BlockBERT: each head lets blocks of queries meet one permuted block of keys.

Qiu et al. 2019, Blockwise Self-Attention for Long Document Understanding, arXiv 1911.02972, section 3.1.
"""

from __future__ import annotations

import torch
from torch import Tensor
from zoo.projected_attention import ProjectedAttention, softmax_attention


class BlockwiseAttention(ProjectedAttention):
    """Head i's permutation shifts the blocks by i."""

    def __init__(self, width: int, heads: int, blocks: int) -> None:
        super().__init__(width, heads)
        self.blocks = blocks

    def mix(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (each.unflatten(2, (self.blocks, -1)) for each in (q, k, v))
        order = (torch.arange(self.heads)[:, None] + torch.arange(self.blocks)) % self.blocks
        head = torch.arange(self.heads)[:, None]
        return softmax_attention(q, k[:, head, order], v[:, head, order]).flatten(2, 3)
