"""LSTM, GRU and RNN layers as one cuDNN op, and GRU cells as one kernel, as a CUDA build runs them.

Source: aten/src/ATen/native/cudnn/RNN.cpp (_cudnn_impl, _cudnn_rnn_backward). torch has no fake kernel of the backward,
nor of GRU cells; they are given here. Weights are taken as flattened, as nn.LSTM keeps them on a GPU: one block, no
copies.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from pytest_flopguard.backends.simulated.packed_sequences import numbers, pack, pad

_aten = torch.ops.aten
# cudnnRNNMode_t.
_RELU, _TANH, _LSTM, _GRU = range(4)

Tensors = Sequence[torch.Tensor]


def _cudnn(
    x: torch.Tensor,
    hidden: torch.Tensor,
    cell: torch.Tensor | None,
    weights: Tensors,
    mode: int,
    options: tuple[bool, int, float, bool, bool],
    batch_first: bool = False,
    batch_sizes: Sequence[int] = (),
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    has_biases, layers, dropout, train, bidirectional = options
    width, projected = hidden.shape[2], 0
    if cell is not None and cell.shape[2] != width:
        width, projected = cell.shape[2], width
    per_layer = (4 if has_biases else 2) + (1 if projected else 0)
    out = _aten._cudnn_rnn(
        x,
        weights,
        per_layer,
        x.new_empty(0),  # the block that holds all weights: those given are it
        hidden,
        cell,
        mode,
        width,
        projected,
        layers,
        batch_first,
        dropout,
        train,
        bidirectional,
        list(batch_sizes),
        None,
    )
    return out[0], out[1], out[2]


def _lstm(
    x: torch.Tensor,
    hx: Tensors,
    params: Tensors,
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    options = (has_biases, num_layers, dropout, train, bidirectional)
    return _cudnn(x, hx[0], hx[1], params, _LSTM, options, batch_first)


def _packed_lstm(
    data: torch.Tensor,
    batch_sizes: torch.Tensor,
    hx: Tensors,
    params: Tensors,
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    options = (has_biases, num_layers, dropout, train, bidirectional)
    return _cudnn(data, hx[0], hx[1], params, _LSTM, options, batch_sizes=numbers(batch_sizes))


def _one_hidden(mode: int) -> Callable[..., tuple[torch.Tensor, torch.Tensor]]:
    def layer(
        x: torch.Tensor,
        hx: torch.Tensor,
        params: Tensors,
        has_biases: bool,
        num_layers: int,
        dropout: float,
        train: bool,
        bidirectional: bool,
        batch_first: bool,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        options = (has_biases, num_layers, dropout, train, bidirectional)
        return _cudnn(x, hx, None, params, mode, options, batch_first)[:2]

    return layer


def _packed_one_hidden(mode: int) -> Callable[..., tuple[torch.Tensor, torch.Tensor]]:
    def layer(
        data: torch.Tensor,
        batch_sizes: torch.Tensor,
        hx: torch.Tensor,
        params: Tensors,
        has_biases: bool,
        num_layers: int,
        dropout: float,
        train: bool,
        bidirectional: bool,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        options = (has_biases, num_layers, dropout, train, bidirectional)
        return _cudnn(data, hx, None, params, mode, options, batch_sizes=numbers(batch_sizes))[:2]

    return layer


def backward(
    x: torch.Tensor,
    weight: Tensors,
    weight_stride0: int,
    weight_buf: torch.Tensor | None,
    hx: torch.Tensor,
    cx: torch.Tensor | None,
    *rest: Any,
) -> tuple[torch.Tensor | None, torch.Tensor, torch.Tensor | None, list[torch.Tensor]]:
    """Shapes of ``_cudnn_rnn_backward``: the weights' gradients are parts of one block, as large as all of them."""
    wanted = rest[-1]
    flat = x.new_empty(sum(each.numel() for each in weight))
    parts = flat.split([each.numel() for each in weight])
    grads = [part.view(each.shape) for part, each in zip(parts, weight, strict=True)] if wanted[3] else []
    return (
        torch.empty_like(x) if wanted[0] else None,
        torch.empty_like(hx),
        torch.empty_like(cx) if cx is not None else None,
        grads,
    )


def gru_cell(
    input_gates: torch.Tensor, hidden_gates: torch.Tensor, hx: torch.Tensor, *biases: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Shapes of ``_thnn_fused_gru_cell`` (RNN.cu): the state, and five values of each kept for backward."""
    return torch.empty_like(hx, memory_format=torch.contiguous_format), hx.new_empty(hx.shape[0], 5 * hx.shape[1])


def gru_cell_backward(grad: torch.Tensor, workspace: torch.Tensor, has_bias: bool) -> tuple[torch.Tensor | None, ...]:
    """Shapes of ``_thnn_fused_gru_cell_backward``: three gates each way, the state, and the biases' sums."""
    batch, gates = workspace.shape[0], workspace.shape[1] // 5 * 3
    biases = [workspace.new_empty(gates) if has_bias else None for _ in range(2)]
    state = torch.empty_like(grad, memory_format=torch.contiguous_format)
    return (workspace.new_empty(batch, gates), workspace.new_empty(batch, gates), state, *biases)


ROUTES: tuple[tuple[Any, Callable[..., Any]], ...] = (
    (_aten.lstm.input, _lstm),
    (_aten.lstm.data, _packed_lstm),
    (_aten.gru.input, _one_hidden(_GRU)),
    (_aten.gru.data, _packed_one_hidden(_GRU)),
    (_aten.rnn_tanh.input, _one_hidden(_TANH)),
    (_aten.rnn_tanh.data, _packed_one_hidden(_TANH)),
    (_aten.rnn_relu.input, _one_hidden(_RELU)),
    (_aten.rnn_relu.data, _packed_one_hidden(_RELU)),
    (_aten._pack_padded_sequence.default, pack),
    (_aten._pad_packed_sequence.default, pad),
)
