"""Clustered attention, plain and improved: queries that hash alike share one row of scores.

Vyas et al. 2020, Fast Transformers with Clustered Attention, arXiv 2007.04825, sections 3.2 and 3.3.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F
from zoo.projected_attention import ProjectedAttention


class ClusteredAttention(ProjectedAttention):
    """``top_keys`` > 0 lets each query meet the best keys of its cluster itself."""

    def __init__(self, width: int, heads: int, clusters: int, bits: int, top_keys: int = 0) -> None:
        super().__init__(width, heads)
        self.clusters, self.top_keys = clusters, top_keys
        self.register_buffer("directions", torch.randn(heads, width // heads, bits))

    def _groups(self, q: Tensor, rounds: int = 3) -> Tensor:
        """K-means under the Hamming distance of the queries' hashes: [B, h, n] cluster of each query."""
        with torch.no_grad():
            hashes = q @ self.directions > 0
            centroids = hashes[:, :, : self.clusters]
            for _ in range(rounds):
                groups = (hashes[:, :, :, None] ^ centroids[:, :, None]).sum(-1).argmin(-1)
                member = F.one_hot(groups, self.clusters).bool()
                votes = (member[..., None] & hashes[:, :, :, None]).sum(2)
                centroids = 2 * votes > member.sum(2)[..., None]
            return groups

    def mix(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        groups = self._groups(q)
        wide = groups[..., None].expand_as(q)
        sizes = torch.zeros_like(q[:, :, : self.clusters]).scatter_add(2, wide, torch.ones_like(q))
        centroids = torch.zeros_like(sizes).scatter_add(2, wide, q) / sizes.clamp(min=1)
        scores = (centroids @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1)
        if not self.top_keys:
            return (scores @ v).gather(2, wide)
        mass, best = scores.topk(self.top_keys, dim=-1)
        rest = (scores.scatter(-1, best, 0.0) @ v).gather(2, wide)
        chosen = best.gather(2, groups[..., None].expand(-1, -1, -1, self.top_keys))
        flat = chosen.flatten(2)[..., None].expand(-1, -1, -1, q.shape[-1])
        near_k, near_v = (each.gather(2, flat).unflatten(2, chosen.shape[2:]) for each in (k, v))
        exact = (q[..., None, :] @ near_k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1)
        exact = exact * mass.sum(-1).gather(2, groups)[..., None, None]
        return rest + (exact @ near_v).squeeze(-2)
