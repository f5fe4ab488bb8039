"""Recurrences whose state meets no matrix: SRU, IndRNN, linear RNN, HGRN; one position after the other.

SRU: Lei et al. 2017, arXiv 1709.02755. IndRNN: Li et al. 2018, arXiv 1803.04831. Linear RNN: Martin and Cundy 2017,
arXiv 1709.04057. HGRN: Qin et al. 2023, arXiv 2311.04823.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def scan(decay: Tensor, inputs: Tensor) -> Tensor:
    """h_t = decay_t * h_(t-1) + inputs_t along dimension 1."""
    state, states = torch.zeros_like(inputs[:, 0]), []
    for each, more in zip(decay.unbind(1), inputs.unbind(1), strict=True):
        state = each * state + more
        states.append(state)
    return torch.stack(states, 1)


class SRU(nn.Module):
    """Gates see the state by vectors (v * c), so that a step is elementwise."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inputs = nn.Linear(width, 3 * width, bias=False)
        self.of_state, self.bias = (nn.Parameter(torch.zeros(2, width)) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        candidates, *gates = self.inputs(x).chunk(3, -1)
        state, out = torch.zeros_like(x[:, 0]), []
        for position in range(x.shape[1]):
            forget, reset = (
                (gate[:, position] + v * state + b).sigmoid()
                for gate, v, b in zip(gates, self.of_state, self.bias, strict=True)
            )
            state = forget * state + (1 - forget) * candidates[:, position]
            out.append(reset * state + (1 - reset) * x[:, position])
        return torch.stack(out, 1)


class IndRNN(nn.Module):
    """Each unit has one weight for its own past."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.inputs = nn.Linear(inputs, hidden)
        self.own = nn.Parameter(torch.ones(hidden))

    def forward(self, x: Tensor) -> Tensor:
        inputs = self.inputs(x)
        state, out = torch.zeros_like(inputs[:, 0]), []
        for each in inputs.unbind(1):
            state = F.relu(each + self.own * state)
            out.append(state)
        return torch.stack(out, 1)


class LinearRNN(nn.Module):
    """Gated impulse linear recurrence: g * h + (1 - g) * i."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.gate, self.impulse = nn.Linear(inputs, hidden), nn.Linear(inputs, hidden)

    def forward(self, x: Tensor) -> Tensor:
        gate = self.gate(x).sigmoid()
        return scan(gate, (1 - gate) * self.impulse(x).tanh())


class HGRN(nn.Module):
    """A forget gate with a lower bound, and an output gate."""

    def __init__(self, width: int, lower: float = 0.5) -> None:
        super().__init__()
        self.lower = lower
        self.inputs, self.forget, self.gate, self.out = (nn.Linear(width, width, bias=False) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        forget = self.lower + (1 - self.lower) * self.forget(x).sigmoid()
        state = scan(forget, (1 - forget) * F.silu(self.inputs(x)))
        return self.out(F.rms_norm(state, state.shape[-1:]) * self.gate(x))


class ComplexHGRN(nn.Module):
    """As the paper's own code: the state turns by an angle of each channel's own, two real halves go out."""

    def __init__(self, width: int, lower: float = 0.5) -> None:
        super().__init__()
        self.lower = lower
        self.inputs, self.gate = (nn.Linear(width, 2 * width, bias=False) for _ in range(2))
        self.forget, self.out = nn.Linear(width, width, bias=False), nn.Linear(2 * width, width, bias=False)
        self.angle = nn.Parameter(torch.rand(width))

    def forward(self, x: Tensor) -> Tensor:
        inputs = torch.complex(*F.silu(self.inputs(x)).chunk(2, -1))
        forget = self.lower + (1 - self.lower) * self.forget(x).sigmoid()
        state = scan(torch.polar(forget, self.angle.expand_as(forget)), (1 - forget) * inputs)
        halves = torch.cat((state.real, state.imag), -1)
        return self.out(F.rms_norm(halves, halves.shape[-1:]) * self.gate(x))
