"""Sparse Transformer's two patterns, masked over a full score matrix and gathered in blocks.

Child et al. 2019, Generating Long Sequences with Sparse Transformers, arXiv 1904.10509, section 4.3. One softmax over
both parts of a pattern (merged heads).
"""

from __future__ import annotations

import torch
from torch import Tensor
from zoo.projected_attention import ProjectedAttention, softmax_attention


def strided_mask(length: int, stride: int) -> Tensor:
    """[n, n]: which key j a query i may meet."""
    distance = torch.arange(length)[:, None] - torch.arange(length)
    return (distance >= 0) & ((distance <= stride) | (distance % stride == 0))


def fixed_mask(length: int, stride: int, summary: int) -> Tensor:
    query, key = torch.arange(length)[:, None], torch.arange(length)
    return (query >= key) & ((query // stride == key // stride) | (key % stride >= stride - summary))


class MaskedAttention(ProjectedAttention):
    """Any pattern as a mask: every score is computed."""

    def __init__(self, width: int, heads: int, allowed: Tensor) -> None:
        super().__init__(width, heads)
        self.allowed = allowed

    def mix(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return softmax_attention(q, k, v, self.allowed)


class GatheredAttention(ProjectedAttention):
    """Near keys from blocks around the query, far keys one group for several queries; masked only inside these."""

    def __init__(self, width: int, heads: int, stride: int, summary: int | None = None) -> None:
        super().__init__(width, heads)
        self.stride, self.summary = stride, summary

    def mix(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        mixed = self._strided if self.summary is None else self._fixed
        return mixed(q / q.shape[-1] ** 0.5, k, v)

    def _fixed(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        batch, heads, length, width = q.shape
        s, c = self.stride, self.summary
        q, k, v = (each.view(batch, heads, length // s, s, width) for each in (q, k, v))
        far_k, far_v = (each[..., -c:, :].reshape(batch, heads, -1, width) for each in (k, v))
        near = q @ k.transpose(-1, -2)
        far = q.flatten(2, 3) @ far_k.transpose(-1, -2)
        position = torch.arange(length).view(-1, s)
        summaries = position[:, -c:].flatten()
        # A query's own block is near already: the summaries of earlier blocks only.
        far = far.masked_fill(summaries // s >= torch.arange(length)[:, None] // s, -torch.inf).view(*q.shape[:4], -1)
        near = near.masked_fill(position[:, None, :] > position[:, :, None], -torch.inf)
        p_near, p_far = torch.cat((near, far), -1).softmax(-1).split((s, far.shape[-1]), -1)
        return (p_near @ v).flatten(2, 3) + p_far.flatten(2, 3) @ far_v

    def _strided(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        batch, heads, length, width = q.shape
        s, blocks = self.stride, length // self.stride
        q, k, v = (each.view(batch, heads, blocks, s, width) for each in (q, k, v))
        near_k, near_v = (torch.cat((each.roll(1, 2), each), 3) for each in (k, v))
        near = q @ near_k.transpose(-1, -2)
        # Positions with the same rest modulo s: [.., s, blocks, width].
        columns_q, columns_k, columns_v = (each.transpose(2, 3) for each in (q, k, v))
        far = (columns_q @ columns_k.transpose(-1, -2)).transpose(2, 3)
        position = torch.arange(length).view(blocks, s)
        near_position = torch.cat((position - s, position), 1)
        distance = position[:, :, None] - near_position[:, None, :]
        near = near.masked_fill((distance < 0) | (distance > s) | (near_position[:, None, :] < 0), -torch.inf)
        # One stride away is near already.
        apart = torch.arange(blocks)[:, None, None] - torch.arange(blocks)
        far = far.masked_fill(apart < 2, -torch.inf)
        p_near, p_far = torch.cat((near, far), -1).softmax(-1).split((2 * s, blocks), -1)
        far_values = (p_far.transpose(2, 3) @ columns_v).transpose(2, 3)
        return (p_near @ near_v + far_values).flatten(2, 3)
