"""Routing Transformer: positions near one centroid meet one another.

Roy et al. 2020, Efficient Content-Based Sparse Attention with Routing Transformers, arXiv 2003.05997, Algorithm 1.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F
from zoo.projected_attention import ProjectedAttention, softmax_attention


class RoutingAttention(ProjectedAttention):
    """k clusters of n/k positions in each head; in a causal model the keys are the queries."""

    def __init__(self, width: int, heads: int, clusters: int, *, causal: bool) -> None:
        super().__init__(width, heads, shared=causal)
        self.causal, self.clusters = causal, clusters
        # Centroids are a running mean of what is routed to them, not trained.
        self.register_buffer("centroids", F.normalize(torch.randn(heads, clusters, width // heads), dim=-1))

    def _members(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            near = self.centroids @ x.transpose(-1, -2)
            # In order of position, so that the causal mask is a triangle.
            return near.topk(x.shape[2] // self.clusters, dim=-1).indices.sort(-1).values

    def mix(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k = (F.layer_norm(each, each.shape[-1:]) for each in (q, k))
        queries = self._members(q)
        keys = queries if self.causal else self._members(k)
        allowed = queries[..., :, None] >= keys[..., None, :] if self.causal else None

        def gathered(x: Tensor, index: Tensor) -> Tensor:
            flat = index.flatten(2)[..., None].expand(-1, -1, -1, x.shape[-1])
            return x.gather(2, flat).unflatten(2, index.shape[2:])

        mixed = softmax_attention(gathered(q, queries), gathered(k, keys), gathered(v, keys), allowed).flatten(2, 3)
        return torch.zeros_like(v).scatter_add(2, queries.flatten(2)[..., None].expand_as(mixed), mixed)
