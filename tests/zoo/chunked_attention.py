"""Causal linear attention in three forms that agree: all scores, chunks with a state, one token after the other.

Lightning attention of TransNormerLLM: Qin et al. 2023, arXiv 2307.14995 (all scores, version 1), and Qin et al. 2024,
arXiv 2401.04658 (chunks, version 2). HGRN2: Qin et al. 2024, arXiv 2404.07904. cosFormer2: Shen et al. 2024, arXiv
2406.16690.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from zoo.projected_attention import heads_of


def all_scores(q: Tensor, k: Tensor, v: Tensor, decay: Tensor) -> Tensor:
    """Version 1: ((Q K^T) * D) V with the decays [B, h, n, d or 1] as products along the way, in logarithms."""
    passed = decay.cumsum(2)
    q, k = q * passed.exp(), k * (-passed).exp()
    return (q @ k.transpose(-1, -2)).tril() @ v


def in_chunks(q: Tensor, k: Tensor, v: Tensor, decay: Tensor, chunk: int) -> Tensor:
    """Version 2: scores inside a chunk, a state for what came before."""
    state = v.new_zeros(*q.shape[:2], q.shape[-1], v.shape[-1])
    out = []
    for part_q, part_k, part_v, part in zip(*(each.split(chunk, 2) for each in (q, k, v, decay)), strict=True):
        passed = part.cumsum(2)
        whole = passed[:, :, -1:]
        out.append(part_q * passed.exp() @ state + all_scores(part_q, part_k, part_v, part))
        left = (part_k * (whole - passed).exp()).transpose(-1, -2) @ part_v
        state = state * whole.exp().transpose(-1, -2) + left
    return torch.cat(out, 2)


def next_token(state: Tensor, q: Tensor, k: Tensor, v: Tensor, decay: Tensor) -> tuple[Tensor, Tensor]:
    """[B, h, d] each: what the token gets, and the new state."""
    state = state * decay.exp()[..., None] + k[..., None] * v[..., None, :]
    return (q[..., None, :] @ state).squeeze(-2), state


class Chunked(nn.Module):
    """What the three models share; ``chunk`` None forms all scores."""

    def __init__(self, width: int, heads: int, chunk: int | None) -> None:
        super().__init__()
        self.heads, self.chunk = heads, chunk
        self.query, self.key, self.value, self.out = (nn.Linear(width, width, bias=False) for _ in range(4))

    def inputs(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """q, k, v and the logarithm of the decay."""
        raise NotImplementedError

    def gate(self, x: Tensor, mixed: Tensor) -> Tensor:
        return mixed

    def forward(self, x: Tensor) -> Tensor:
        q, k, v, decay = self.inputs(x)
        mixed = all_scores(q, k, v, decay) if self.chunk is None else in_chunks(q, k, v, decay, self.chunk)
        return self.out(self.gate(x, mixed.transpose(1, 2).reshape(x.shape)))

    def generate(self, x: Tensor) -> Tensor:
        """The same, one token after the other."""
        q, k, v, decay = self.inputs(x)
        state = v.new_zeros(*q.shape[:2], q.shape[-1], v.shape[-1])
        out = []
        for position in range(x.shape[1]):
            each, state = next_token(state, *(part[:, :, position] for part in (q, k, v, decay)))
            out.append(each)
        return self.out(self.gate(x, torch.stack(out, 2).transpose(1, 2).reshape(x.shape)))


class TransNormerLLM(Chunked):
    """Gated linear attention with a decay of each head's own, and SRMSNorm."""

    def __init__(self, width: int, heads: int, chunk: int | None) -> None:
        super().__init__(width, heads, chunk)
        self.gates = nn.Linear(width, width, bias=False)

    def inputs(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        q, k, v = (heads_of(each(x), self.heads) for each in (self.query, self.key, self.value))
        rate = -8.0 / 64 * torch.arange(1, self.heads + 1)[None, :, None, None] / self.heads
        return F.silu(q), F.silu(k), v, rate.expand(x.shape[0], self.heads, x.shape[1], 1)

    def gate(self, x: Tensor, mixed: Tensor) -> Tensor:
        return F.rms_norm(mixed, mixed.shape[-1:]) * self.gates(x)


class HGRN2(Chunked):
    """The forget gate is a decay of each channel's own, and what it leaves over is the key."""

    def inputs(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        q, forget, v = (heads_of(each(x), self.heads) for each in (self.query, self.key, self.value))
        # A lower bound of 1/2, so that products of many decays stay numbers.
        forget = 0.5 + 0.5 * forget.sigmoid()
        return F.silu(q), 1 - forget, v, forget.log()


class CosFormer2(Chunked):
    """No decay; the cosine and the sine of learned angles double queries and keys."""

    def __init__(self, width: int, heads: int, chunk: int | None) -> None:
        super().__init__(width, heads, chunk)
        self.angle = nn.Parameter(torch.rand(heads, 1, width // heads))

    def inputs(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        q, k, v = (heads_of(each(x), self.heads) for each in (self.query, self.key, self.value))
        angle = self.angle * torch.arange(x.shape[1])[:, None]
        q, k = (torch.cat((F.silu(each) * angle.cos(), F.silu(each) * angle.sin()), -1) for each in (q, k))
        return q, k, v, torch.zeros(1, 1, x.shape[1], 1)


class GatedUnits(nn.Module):
    """SGLU: a gated channel mixer without an activation."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.value, self.gate = (nn.Linear(width, inner, bias=False) for _ in range(2))
        self.out = nn.Linear(inner, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.value(x) * self.gate(x))
