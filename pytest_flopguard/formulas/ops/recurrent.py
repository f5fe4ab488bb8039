"""LSTM, GRU and RNN layers that a device runs as one op; elsewhere torch lowers them to matrix products.

A step multiplies each weight matrix of a cell once with one row: input weights [gates*h, in], hidden weights
[gates*h, h or p], projection [p, h], where an LSTM has 4 gates, a GRU 3, an RNN 1. A row is one batch item in one
step; a packed sequence has as many as its data. Together 2 * rows * (gates*h*(in + h) + p*h) FLOPs for each layer
and direction. The gates' own arithmetic is elementwise and left out.

Backward multiplies each matrix once more for what flows back and once for its own gradient: twice the forward, less
what autograd does not ask for: the input's gradient, the first step's hidden state's, frozen weights'. oneDNN and
cuDNN compute some of it nevertheless and drop it. That is left out, as torch's own steps do not do it and the same
model must count the same everywhere. An op without a mask does not say what is asked for: there, a tensor that
requires a gradient is taken to get one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from pytest_flopguard.core.tensors import TensorSpec
from pytest_flopguard.formulas.ops.matmul import multiply_adds
from pytest_flopguard.formulas.registry import formula

FREE = ("aten._cudnn_rnn_flatten_weight", "mkldnn._reorder_mkldnn_rnn_layer_weight")

# The gates alone: their products are ops of their own.
UNCOUNTED = (
    "aten._thnn_fused_lstm_cell",
    "aten._thnn_fused_lstm_cell_backward_impl",
    "aten._thnn_fused_gru_cell",
    "aten._thnn_fused_gru_cell_backward",
)


class _Cell(NamedTuple):
    """One direction of one layer: its parameters, and how many rows meet the initial hidden state in its first step."""

    parameters: Sequence[TensorSpec]
    first_rows: int


def _rows(x: TensorSpec) -> int:
    return x.numel // x.shape[-1] if x.shape[-1] else 0


def _forward(rows: int, parameters: Sequence[TensorSpec]) -> int:
    return sum(multiply_adds(rows * each.numel, each) for each in parameters if each.ndim == 2)


def _backward(rows: int, layers: Sequence[Sequence[_Cell]], *, x: bool, h0: bool, c0: bool, weights: bool) -> int:
    """FLOPs of the gradients that are asked for: of the input, of the initial states, of the weights."""
    total = 0
    flows = x
    for layer in layers:
        trained = weights and any(each.needs_grad for cell in layer for each in cell.parameters)
        if not (flows or trained or h0 or c0):
            continue
        for parameters, first_rows in layer:
            of_input, of_hidden, *projection = [each for each in parameters if each.ndim == 2]
            if flows:
                total += _forward(rows, [of_input])
            total += _forward(rows if h0 else rows - first_rows, [of_hidden]) + _forward(rows, projection)
            if weights:
                total += _forward(rows, [each for each in parameters if each.needs_grad])
        flows = True
    return total


def _layers(
    parameters: Sequence[TensorSpec], per_cell: int, hx: TensorSpec, bidirectional: bool, batch_sizes: Sequence[int]
) -> list[list[_Cell]]:
    """Cut the flat list of parameters into layers of one or two directions."""
    # A packed sequence's backward direction starts with the rows of the longest sequences only.
    firsts = (batch_sizes[0], batch_sizes[-1]) if batch_sizes else (hx.shape[-2], hx.shape[-2])
    directions = 2 if bidirectional else 1
    cells = [
        _Cell(parameters[start : start + per_cell], firsts[number % directions])
        for number, start in enumerate(range(0, len(parameters), per_cell))
    ]
    return [cells[start : start + directions] for start in range(0, len(cells), directions)]


@formula("aten.mkldnn_rnn_layer")
def layer(x: TensorSpec, of_input: TensorSpec, of_hidden: TensorSpec, *_: Any) -> int:
    """One direction of one layer: [T, B, in], [gates*h, in], [gates*h, h]: 2 * T*B * gates*h * (in + h)."""
    return _forward(_rows(x), [of_input, of_hidden])


@formula("aten.mkldnn_rnn_layer_backward")
def layer_backward(
    x: TensorSpec,
    of_input: TensorSpec,
    of_hidden: TensorSpec,
    bias_input: TensorSpec,
    bias_hidden: TensorSpec,
    h0: TensorSpec,
    c0: TensorSpec,
    *_: Any,
) -> int:
    """Twice layer, less what autograd does not ask for."""
    # A layer without biases gets its weights in their place.
    biases = [each for each in (bias_input, bias_hidden) if each.ndim == 1]
    cell = _Cell([of_input, of_hidden, *biases], _rows(h0))
    return _backward(_rows(x), [[cell]], x=x.needs_grad, h0=h0.needs_grad, c0=c0.needs_grad, weights=True)


@formula("aten._cudnn_rnn", "aten.miopen_rnn")
def stack(x: TensorSpec, parameters: Sequence[TensorSpec], *_: Any) -> int:
    """All layers and directions: each weight matrix once for each row."""
    return _forward(_rows(x), parameters)


def _stack_backward(
    x: TensorSpec,
    parameters: Sequence[TensorSpec],
    per_cell: int,
    hx: TensorSpec,
    bidirectional: bool,
    batch_sizes: Sequence[int],
    mask: Sequence[bool],
) -> int:
    layers = _layers(parameters, per_cell, hx, bidirectional, batch_sizes)
    return _backward(_rows(x), layers, x=mask[0], h0=mask[1], c0=mask[2], weights=mask[3])


@formula("aten._cudnn_rnn_backward")
def cudnn_backward(
    x: TensorSpec,
    parameters: Sequence[TensorSpec],
    per_cell: int,
    buffer: TensorSpec,
    hx: TensorSpec,
    cx: TensorSpec | None,
    output: TensorSpec,
    grad_output: TensorSpec | None,
    grad_hy: TensorSpec | None,
    grad_cy: TensorSpec | None,
    mode: int,
    hidden_size: int,
    proj_size: int,
    num_layers: int,
    batch_first: bool,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_sizes: Sequence[int],
    dropout_state: TensorSpec | None,
    reserve: TensorSpec,
    output_mask: Sequence[bool],
) -> int:
    """Twice stack, less what the output mask (input, h0, c0, weights) does not ask for."""
    return _stack_backward(x, parameters, per_cell, hx, bidirectional, batch_sizes, output_mask)


@formula("aten.miopen_rnn_backward")
def miopen_backward(
    x: TensorSpec,
    parameters: Sequence[TensorSpec],
    per_cell: int,
    buffer: TensorSpec,
    hx: TensorSpec,
    *rest: Any,
) -> int:
    """As cudnn_backward; MIOpen's op has no projection size."""
    bidirectional, batch_sizes, _dropout_state, _reserve, output_mask = rest[-5:]
    return _stack_backward(x, parameters, per_cell, hx, bidirectional, batch_sizes, output_mask)


@formula("aten._lstm_mps")
def lstm_mps(x: TensorSpec, hx: Sequence[TensorSpec], parameters: Sequence[TensorSpec], *_: Any) -> int:
    """As stack."""
    return _forward(_rows(x), parameters)


@formula("aten.lstm_mps_backward")
def lstm_mps_backward(
    grad_y: TensorSpec | None,
    grad_hy: TensorSpec | None,
    grad_cy: TensorSpec | None,
    gates: TensorSpec,
    cells: TensorSpec,
    x: TensorSpec,
    outputs: TensorSpec,
    hx: Sequence[TensorSpec],
    parameters: Sequence[TensorSpec],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> int:
    """Twice lstm_mps, less what autograd does not ask for."""
    mask = (x.needs_grad, hx[0].needs_grad, hx[1].needs_grad, True)
    return _stack_backward(x, parameters, 4 if has_biases else 2, hx[0], bidirectional, (), mask)


def _quantized(gates: int, x: TensorSpec, hx: TensorSpec, out: TensorSpec) -> int:
    """FLOPs of layers whose weights are packed: their sizes follow from the input, the states and the output."""
    hidden = hx.shape[-1]
    width = out.shape[-1]
    directions = width // hidden
    layers = hx.shape[0] // directions
    inputs = x.shape[-1] + (layers - 1) * width
    return 2 * _rows(x) * directions * gates * hidden * (inputs + layers * hidden)


@formula("aten.quantized_lstm")
def quantized_lstm(x: TensorSpec, *rest: Any, out: Sequence[TensorSpec], **_: Any) -> int:
    """Integer products count as FLOPs: 2 * rows * 4h * (in + h) for each layer and direction."""
    # With packed sequences, the batch sizes come before the states.
    states = next(each for each in rest if isinstance(each, (list, tuple)))
    return _quantized(4, x, states[0], out[0])


@formula("aten.quantized_gru")
def quantized_gru(x: TensorSpec, *rest: Any, out: Sequence[TensorSpec]) -> int:
    """Integer products count as FLOPs: 2 * rows * 3h * (in + h) for each layer and direction."""
    hx = [each for each in rest if isinstance(each, TensorSpec)][-1]
    return _quantized(3, x, hx, out[0])


def _quantized_cell(gates: int, x: TensorSpec, h: TensorSpec) -> int:
    hidden = h.shape[-1]
    return 2 * _rows(x) * gates * hidden * (x.shape[-1] + hidden)


@formula("aten.quantized_lstm_cell", "quantized.quantized_lstm_cell_dynamic")
def quantized_lstm_cell(x: TensorSpec, hx: Sequence[TensorSpec], *_: Any) -> int:
    """[B, in], [B, h]: 2*B * 4h * (in + h)."""
    return _quantized_cell(4, x, hx[0])


@formula("aten.quantized_gru_cell", "quantized.quantized_gru_cell_dynamic")
def quantized_gru_cell(x: TensorSpec, h: TensorSpec, *_: Any) -> int:
    """[B, in], [B, h]: 2*B * 3h * (in + h)."""
    return _quantized_cell(3, x, h)


@formula(
    "aten.quantized_rnn_tanh_cell",
    "aten.quantized_rnn_relu_cell",
    "quantized.quantized_rnn_tanh_cell_dynamic",
    "quantized.quantized_rnn_relu_cell_dynamic",
)
def quantized_rnn_cell(x: TensorSpec, h: TensorSpec, *_: Any) -> int:
    """[B, in], [B, h]: 2*B * h * (in + h)."""
    return _quantized_cell(1, x, h)
