"""Sequence mixers by long convolutions: TNN, S4, H3, Hyena.

TNN: Qin et al. 2023, arXiv 2305.04749. S4: Gu et al. 2021, arXiv 2111.00396. H3: Fu et al. 2022, arXiv 2212.14052.
Hyena: Poli et al. 2023, arXiv 2302.10866.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def fft_convolution(x: Tensor, kernel: Tensor) -> Tensor:
    """Causal convolution of [..., n] with [..., n] along the last dimension."""
    length = x.shape[-1]
    spectrum = torch.fft.rfft(x, n=2 * length) * torch.fft.rfft(kernel, n=2 * length)
    return torch.fft.irfft(spectrum, n=2 * length)[..., :length]


def toeplitz_matrix(kernel: Tensor, length: int) -> Tensor:
    """[c, n] of a causal kernel, or [c, 2n - 1] for distances 1 - n to n - 1, to [c, n, n]."""
    distance = torch.arange(length)[:, None] - torch.arange(length)
    if kernel.shape[-1] == length:
        return kernel[:, distance.clamp(min=0)].tril()
    return kernel[:, distance + length - 1]


class PositionNetwork(nn.Module):
    """A small network from features of a position to coefficients of many kernels."""

    def __init__(self, inputs: int, rank: int, layers: int, outputs: int) -> None:
        super().__init__()
        self.first = nn.Linear(inputs, rank)
        self.hidden = nn.ModuleList(nn.Linear(rank, rank) for _ in range(layers))
        self.last = nn.Linear(rank, outputs)

    def forward(self, positions: Tensor) -> Tensor:
        x = self.first(positions)
        for layer in self.hidden:
            x = layer(x.sin())
        return self.last(x.sin())


class GatedToeplitzUnit(nn.Module):
    """TNN's token mixer; ``dense`` multiplies with the Toeplitz matrix instead of transforming."""

    def __init__(
        self, width: int, expanded: int, rank: int, layers: int, *, causal: bool = False, dense: bool = False
    ) -> None:
        super().__init__()
        self.causal, self.dense = causal, dense
        self.gate, self.value = nn.Linear(width, expanded), nn.Linear(width, expanded)
        self.out = nn.Linear(expanded, width)
        self.coefficients = PositionNetwork(1, rank, layers, expanded)

    def forward(self, x: Tensor) -> Tensor:
        length = x.shape[1]
        positions = torch.arange(0 if self.causal else 1 - length, length)[:, None]
        kernel = (self.coefficients(positions.float()) * 0.99 ** positions.abs()).T
        value = F.silu(self.value(x)).transpose(1, 2)
        if self.dense:
            matrix = toeplitz_matrix(kernel, length)
            mixed = (matrix @ value.permute(1, 2, 0)).permute(2, 0, 1)
        elif self.causal:
            mixed = fft_convolution(value, kernel)
        else:
            # Distances 0 to n - 1, one that never counts, and then 1 - n to -1: a circle of 2n.
            circle = torch.cat((kernel[:, length - 1 :], kernel[:, :1] * 0, kernel[:, : length - 1]), -1)
            spectrum = torch.fft.rfft(value, n=2 * length) * torch.fft.rfft(circle)
            mixed = torch.fft.irfft(spectrum, n=2 * length)[..., :length]
        return self.out(F.silu(self.gate(x)) * mixed.transpose(1, 2))


class S4(nn.Module):
    """A state matrix that is diagonal plus rank one for each channel, its kernel by Cauchy products."""

    def __init__(self, width: int, state: int) -> None:
        super().__init__()
        half = state // 2
        self.step = nn.Parameter(torch.linspace(-5.0, -3.0, width).exp()[:, None])
        self.poles = nn.Parameter(
            torch.complex(torch.full((width, half), -0.5), math.pi * torch.arange(half).float().expand(width, half))
        )
        self.inputs, self.reads, self.rank_one = (
            nn.Parameter(torch.randn(width, half, dtype=torch.cfloat) / state**0.5) for _ in range(3)
        )
        self.out = nn.Linear(width, width)

    def parameters_in_pairs(self) -> list[Tensor]:
        """Poles, input, output and rank-one vectors, with the conjugates that make the kernel real."""
        halves = (self.poles, self.inputs, self.reads, self.rank_one)
        return [torch.cat((each, each.conj()), -1) for each in halves]

    def kernel(self, length: int) -> Tensor:
        """[d, n]: the generating function at roots of unity, transformed back. Reads are those of a cut kernel."""
        poles, b, c, p = self.parameters_in_pairs()
        nodes = torch.exp(-2j * math.pi * torch.arange(length // 2 + 1) / length)
        # (1 - z) / (1 + z), with the pole at z = -1 kept off by multiplying with 1 + z first.
        poles_at = 1 / (2 * (1 - nodes) - self.step[..., None] * (1 + nodes) * poles[..., None])
        weights = torch.stack((c * b, c * p, p.conj() * b, p.conj() * p), 1)
        cb, cp, pb, pp = (weights @ poles_at).unbind(1)
        scale = self.step * (1 + nodes)
        spectrum = 2 * self.step * (cb - scale * cp * pb / (1 + scale * pp))
        return torch.fft.irfft(spectrum, n=length)

    def forward(self, x: Tensor) -> Tensor:
        mixed = fft_convolution(x.transpose(1, 2), self.kernel(x.shape[1]))
        return self.out(F.gelu(mixed.transpose(1, 2)))

    def discrete(self, length: int) -> tuple[Tensor, ...]:
        """What a recurrence needs: (I + h/2 A), (I - h/2 A)^-1 as diagonal and rank one, b, and uncut reads."""
        poles, b, c, p = self.parameters_in_pairs()
        h = self.step / 2
        inverse = 1 / (1 - h * poles)
        # Sherman and Morrison: (D + h p p*)^-1 = D^-1 - D^-1 p h p* D^-1 / (1 + h p* D^-1 p).
        left = h * inverse * p / (1 + h * (p.conj() * inverse * p).sum(-1, keepdim=True))
        right = p.conj() * inverse
        matrix = torch.diag_embed(poles) - p[..., None] * p.conj()[..., None, :]
        eye = torch.eye(poles.shape[-1])
        bar = torch.linalg.solve(eye - h[..., None] * matrix, eye + h[..., None] * matrix)
        whole = eye - torch.linalg.matrix_power(bar, length)
        reads = torch.linalg.solve(whole.transpose(-1, -2), c[..., None]).squeeze(-1)
        return 1 + h * poles, h * p, p.conj(), inverse, left, right, self.step * b, reads

    def next_position(self, state: Tensor, x: Tensor, discrete: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """[B, d, N] and [B, d]: the next state and what the layer says."""
        diagonal, before, conj, inverse, left, right, b, reads = discrete

        def dot(vector: Tensor, of: Tensor) -> Tensor:
            return (of[..., None, :] @ vector[..., None]).squeeze(-1)

        state = diagonal * state - before * dot(conj, state) + b * x[..., None]
        state = inverse * state - left * dot(right, state)
        return state, self.out(F.gelu(dot(reads, state).squeeze(-1).real))


class H3(nn.Module):
    """A shift on keys, a diagonal state space model on keys times values, read by queries."""

    def __init__(self, width: int, heads: int, state: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.out = (nn.Linear(width, width, bias=False) for _ in range(4))
        self.shift = nn.Parameter(torch.randn(width, 4) / 2)
        self.poles = nn.Parameter(torch.complex(-torch.rand(heads, state), torch.randn(heads, state)))
        self.weights = nn.Parameter(torch.randn(heads, 1, state, dtype=torch.cfloat) / state)

    def kernel(self, length: int) -> Tensor:
        modes = torch.exp(self.poles[..., None] * torch.arange(length))
        return 2 * (self.weights @ modes).squeeze(1).real

    def forward(self, x: Tensor) -> Tensor:
        length = x.shape[1]
        q, k, v = (each(x).transpose(1, 2) for each in (self.query, self.key, self.value))
        k = fft_convolution(k, F.pad(self.shift, (0, length - 4)))
        q, k, v = (each.unflatten(1, (self.heads, -1)) for each in (q, k, v))
        products = k[:, :, :, None] * v[:, :, None]
        states = fft_convolution(products, self.kernel(length)[:, None, None])
        narrow = q.shape[2] == 1
        mixed = q * states[:, :, 0] if narrow else torch.einsum("bhin,bhijn->bhjn", q, states)
        return self.out(mixed.flatten(1, 2).transpose(1, 2))


class Hyena(nn.Module):
    """N - 1 long convolutions, with kernels that a network makes, between gates."""

    def __init__(self, width: int, order: int, embedding: int, rank: int, layers: int, short: int) -> None:
        super().__init__()
        self.order, self.embedding = order, embedding
        self.inputs = nn.Linear(width, (order + 1) * width)
        self.short = nn.Conv1d(
            (order + 1) * width, (order + 1) * width, short, groups=(order + 1) * width, padding=short - 1
        )
        self.kernels = PositionNetwork(embedding, rank, layers, (order - 1) * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        length, width = x.shape[1:]
        inner = self.short(self.inputs(x).transpose(1, 2))[..., :length]
        *gates, v = inner.split(width, 1)
        time = torch.linspace(0, 1, length)[:, None]
        bands = 2 * math.pi * time * torch.arange(1, self.embedding // 2 + 1)
        kernels = self.kernels(torch.cat((time, bands.cos(), bands.sin()), -1)) * (-3 * time).exp()
        for gate, kernel in zip(gates[1:], kernels.T.split(width), strict=True):
            v = fft_convolution(v * gate, kernel)
        return self.out((v * gates[0]).transpose(1, 2))
