"""Linear attention with four feature maps, where every position sees every other, and without any.

Linear Transformer: Katharopoulos et al. 2020, arXiv 2006.16236. Performer: Choromanski et al. 2020, arXiv 2009.14794.
Random feature attention: Peng et al. 2021, arXiv 2103.02143. cosFormer: Qin et al. 2022, arXiv 2202.08791.
NormAttention of TransNormer: Qin et al. 2022, arXiv 2210.10340.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from zoo.projected_attention import ProjectedAttention


class LinearAttention(ProjectedAttention):
    """phi(Q) (phi(K)^T V), divided by phi(Q) with the sum of phi(K); phi is elu + 1."""

    def features(self, x: Tensor) -> Tensor:
        return F.elu(x) + 1

    def mix(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k = self.features(q), self.features(k)
        weight = torch.einsum("bhnd,bhd->bhn", q, k.sum(2))
        return (q @ (k.transpose(-1, -2) @ v)) / weight[..., None]


class PerformerAttention(LinearAttention):
    """Positive random features: exp(w x - x^2/2), less a constant that cancels."""

    def __init__(self, width: int, heads: int, features: int) -> None:
        super().__init__(width, heads)
        self.register_buffer("directions", torch.randn(width // heads, features))

    def features(self, x: Tensor) -> Tensor:
        x = x / x.shape[-1] ** 0.25
        projected = x @ self.directions
        most = projected.amax((-1, -2), keepdim=True).detach()
        features = (projected - x.square().sum(-1, keepdim=True) / 2 - most).exp() + 1e-4
        return features / self.directions.shape[1] ** 0.5


class RandomFeatureAttention(LinearAttention):
    """Sine and cosine along random directions, whose scale is trained, of unit queries and keys."""

    def __init__(self, width: int, heads: int, features: int) -> None:
        super().__init__(width, heads)
        self.register_buffer("directions", torch.randn(heads, width // heads, features))
        self.scale = nn.Parameter(torch.ones(heads, width // heads, 1))

    def features(self, x: Tensor) -> Tensor:
        projected = F.normalize(x, dim=-1) @ (self.scale * self.directions)
        return torch.cat((projected.sin(), projected.cos()), -1) / self.directions.shape[-1] ** 0.5


class CosformerAttention(LinearAttention):
    """relu features times the cosine and the sine of the position."""

    def features(self, x: Tensor) -> Tensor:
        length = x.shape[2]
        angle = math.pi / 2 * torch.arange(1, length + 1)[:, None] / length
        return torch.cat((F.relu(x) * angle.cos(), F.relu(x) * angle.sin()), -1)


class NormAttention(ProjectedAttention):
    """No softmax, no division, but a norm after; ``left`` multiplies the scores out."""

    def __init__(self, width: int, heads: int, *, left: bool) -> None:
        super().__init__(width, heads)
        self.left = left
        self.norm = nn.LayerNorm(width // heads)

    def mix(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k = (1 + F.elu(each) for each in (q, k))
        kt = k.transpose(-1, -2)
        return self.norm((q @ kt) @ v if self.left else q @ (kt @ v))
