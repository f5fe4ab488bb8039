"""Recurrent layers. A step multiplies each weight matrix once: gates * h * (in + h) multiply-adds for each row.

Backward does each product once more for either gradient, but the first step's hidden state asks for none: of each
direction of each layer, B rows of gates * h * h are left out.
"""

# A case says what it is by its name.
# ruff: noqa: D103

from __future__ import annotations

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

from cases.case import Function, Program, case, rand

# Steps, batch, width of the input and of the hidden state.
T, B, X, H = 10, 3, 16, 24
LSTM = 2 * T * B * 4 * H * (X + H)
GRU = 2 * T * B * 3 * H * (X + H)
RNN = 2 * T * B * H * (X + H)


def output_of(layer: nn.Module) -> nn.Module:
    """Return what a layer puts out, without its states."""
    return Function(lambda x: layer(x)[0], layer)


@case("nn.LSTM", LSTM, 2 * LSTM - 2 * B * 4 * H * H)
def lstm() -> Program:
    return output_of(nn.LSTM(X, H)), (rand(T, B, X),)


# The second layer takes both directions of the first one: 2H wide.
TWO_WAYS = 2 * LSTM + 2 * (2 * T * B * 4 * H * (2 * H + H))


@case("nn.LSTM, 2 layers, bidirectional", TWO_WAYS, 2 * TWO_WAYS - 4 * (2 * B * 4 * H * H))
def lstm_bidirectional() -> Program:
    return output_of(nn.LSTM(X, H, num_layers=2, bidirectional=True)), (rand(T, B, X),)


# The hidden state is projected from H to 8 after each step, and the next step takes 8.
PROJECTED = 2 * T * B * (4 * H * (X + 8) + 8 * H)


@case("nn.LSTM, projection", PROJECTED, 2 * PROJECTED - 2 * B * 4 * H * 8)
def lstm_projection() -> Program:
    return output_of(nn.LSTM(X, H, proj_size=8)), (rand(T, B, X),)


# 10 + 7 + 4 rows in all; the padding is not computed.
PACKED = 2 * (10 + 7 + 4) * 4 * H * (X + H)


@case("nn.LSTM, packed sequences", PACKED, 2 * PACKED - 2 * B * 4 * H * H)
def lstm_packed() -> Program:
    layer = nn.LSTM(X, H)
    lengths = torch.tensor([10, 7, 4])
    return Function(lambda x: layer(pack_padded_sequence(x, lengths))[0].data, layer), (rand(T, B, X),)


@case("nn.LSTM, eval, no_grad", LSTM, grad=False)
def lstm_inference() -> Program:
    return output_of(nn.LSTM(X, H).eval()), (rand(T, B, X, grad=False),)


@case("nn.GRU", GRU, 2 * GRU - 2 * B * 3 * H * H)
def gru() -> Program:
    return output_of(nn.GRU(X, H)), (rand(T, B, X),)


@case("nn.RNN", RNN, 2 * RNN - 2 * B * H * H)
def rnn() -> Program:
    return output_of(nn.RNN(X, H)), (rand(T, B, X),)


@case("nn.LSTMCell in a loop", LSTM, 2 * LSTM - 2 * B * 4 * H * H)
def lstm_cell() -> Program:
    cell = nn.LSTMCell(X, H)

    def run(x: torch.Tensor) -> torch.Tensor:
        state = None
        for step in x:
            state = cell(step, state)
        return state[0]

    return Function(run, cell), (rand(T, B, X),)


# No product makes the first state, so the last T - 1 steps alone multiply by the state.
@case("linear recurrence in a loop", 2 * T * B * X * H + 2 * (T - 1) * B * H * H)
def linear_recurrence() -> Program:
    into, over = nn.Linear(X, H, bias=False), nn.Linear(H, H, bias=False)

    def run(x: torch.Tensor) -> torch.Tensor:
        state = into(x[0])
        for step in x[1:]:
            state = into(step) + over(state)
        return state

    return Function(run, into, over), (rand(T, B, X),)
