"""Linformer: keys and values are projected along the length, to a fixed number of positions.

Wang et al. 2020, Linformer: Self-Attention with Linear Complexity, arXiv 2006.04768, equation 7.
"""

from __future__ import annotations

from torch import Tensor, nn
from zoo.projected_attention import ProjectedAttention, softmax_attention


class LinformerAttention(ProjectedAttention):
    """One projection for the keys of all heads, one for the values (headwise sharing)."""

    def __init__(self, width: int, heads: int, length: int, rank: int) -> None:
        super().__init__(width, heads)
        self.shorten_keys = nn.Linear(length, rank, bias=False)
        self.shorten_values = nn.Linear(length, rank, bias=False)

    def mix(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        k = self.shorten_keys(k.transpose(-1, -2)).transpose(-1, -2)
        v = self.shorten_values(v.transpose(-1, -2)).transpose(-1, -2)
        return softmax_attention(q, k, v)
