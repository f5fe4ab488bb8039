"""Recurrent layers: hand calculations, and the same cells written out as linear layers that run and are counted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from pytest_flopguard.core.measurement import FlopTally
from pytest_flopguard.core.tensors import TensorSpec

Tally = Callable[[Callable[[], Any]], FlopTally]
Flops = Callable[..., int]
STEPS, BATCH, WIDTH, HIDDEN, PROJECTED = 4, 3, 7, 11, 5
LENGTHS = [4, 2, 1]
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


class WrittenOut(nn.Module):
    """One direction of a recurrent layer out of nn.Linear: the products of one step, one after the other."""

    def __init__(self, kind: str, width: int, hidden: int, projected: int = 0) -> None:
        super().__init__()
        self.kind, self.hidden, self.state = kind, hidden, projected or hidden
        self.of_input = nn.Linear(width, GATES[kind] * hidden)
        self.of_hidden = nn.Linear(self.state, GATES[kind] * hidden)
        self.projection = nn.Linear(hidden, projected, bias=False) if projected else nn.Identity()

    def forward(self, x: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
        c = torch.zeros(x.shape[1], self.hidden)
        from_input = self.of_input(x)
        outputs = []
        for step in from_input:
            if self.kind == "LSTM":
                i, f, g, o = (step + self.of_hidden(h)).chunk(4, -1)
                c = f.sigmoid() * c + i.sigmoid() * g.tanh()
                h = self.projection(o.sigmoid() * c.tanh())
            elif self.kind == "GRU":
                (r, z, n), (hr, hz, hn) = step.chunk(3, -1), self.of_hidden(h).chunk(3, -1)
                z = (z + hz).sigmoid()
                h = (1 - z) * (n + (r + hr).sigmoid() * hn).tanh() + z * h
            else:
                h = (step + self.of_hidden(h)).tanh()
            outputs.append(h)
        return torch.stack(outputs)


def module(kind: str, **options: Any) -> nn.RNNBase:
    made: nn.RNNBase = getattr(nn, kind)(WIDTH, HIDDEN, **options)
    return made


def train(model: nn.Module, *inputs: Any) -> Callable[[], None]:
    def step() -> None:
        out = model(*inputs)
        out = out[0] if isinstance(out, tuple) and not isinstance(out, PackedSequence) else out
        out = out.data if isinstance(out, PackedSequence) else out
        out.sum().backward()

    return step


@contextmanager
def step_by_step() -> Iterator[None]:
    """Numbers that no fused kernel takes: torch lowers a layer to the products of single steps."""
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("kind", GATES)
@pytest.mark.parametrize("trained", [True, False], ids=["input-grad", "no-input-grad"])
def test_a_layer_counts_as_its_linear_layers(tally: Tally, kind: str, trained: bool) -> None:
    x = torch.randn(STEPS, BATCH, WIDTH, requires_grad=trained)
    h = torch.zeros(BATCH, HIDDEN)
    layer = tally(train(module(kind), x))
    written_out = tally(train(WrittenOut(kind, WIDTH, HIDDEN), x, h))
    assert layer.unknown_ops == ()
    assert layer.forward == written_out.forward
    assert layer.backward == written_out.backward


@pytest.mark.parametrize("kind", GATES)
def test_forward_by_hand(tally: Tally, kind: str) -> None:
    # 2 * T*B * gates*h * (in + h) for the first of two layers; the second one's input has 2*h from two directions.
    gates = GATES[kind]
    first = 2 * STEPS * BATCH * gates * HIDDEN * (WIDTH + HIDDEN)
    second = 2 * STEPS * BATCH * gates * HIDDEN * (2 * HIDDEN + HIDDEN)
    model = module(kind, num_layers=2, bidirectional=True)
    x = torch.randn(STEPS, BATCH, WIDTH)
    assert tally(lambda: model(x)).forward == 2 * (first + second)
    with torch.no_grad():
        assert tally(lambda: model(x)).forward == 2 * (first + second)
    with torch.inference_mode():
        assert tally(lambda: model(x)).forward == 2 * (first + second)


@pytest.mark.parametrize("frozen", ["", "weight_hh", "_l0", "weight"])
@pytest.mark.parametrize("input_grad", [True, False], ids=["x", ""])
@pytest.mark.parametrize("state_grad", [True, False], ids=["h0", ""])
@pytest.mark.parametrize("options", [{}, {"bidirectional": True, "batch_first": True}, {"bias": False}], ids=str)
def test_the_fused_layer_counts_what_autograd_asks_for(
    tally: Tally, options: dict[str, Any], state_grad: bool, input_grad: bool, frozen: str
) -> None:
    def step() -> None:
        model = module("LSTM", num_layers=2, **options)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(not frozen or frozen not in name)
        x = torch.randn(STEPS, BATCH, WIDTH, requires_grad=input_grad)
        states = 2 * (2 if model.bidirectional else 1)
        batch = STEPS if model.batch_first else BATCH
        h0 = torch.zeros(states, batch, HIDDEN, requires_grad=state_grad)
        out = model(x, (h0, torch.zeros(states, batch, HIDDEN)))[0]
        if out.requires_grad:
            out.sum().backward()

    fused = tally(step)
    assert any("rnn_layer" in op for op in fused.by_op())
    with step_by_step():
        plain = tally(step)
    assert not any("rnn_layer" in op for op in plain.by_op())
    assert (fused.forward, fused.backward) == (plain.forward, plain.backward)


@pytest.mark.parametrize("kind", GATES)
def test_real_meta_and_fake_tensors_count_the_same(tally: Tally, kind: str) -> None:
    def step(device: str) -> Callable[[], None]:
        model = module(kind, num_layers=2, bidirectional=True, device=device)
        return train(model, torch.randn(STEPS, BATCH, WIDTH, device=device))

    real, meta = tally(step("cpu")), tally(step("meta"))
    with FakeTensorMode():
        fake = tally(step("cpu"))
    assert (real.forward, real.backward) == (meta.forward, meta.backward) == (fake.forward, fake.backward)


@pytest.mark.parametrize("kind", GATES)
@pytest.mark.parametrize("bidirectional", [True, False])
def test_packed_sequences_count_their_rows(tally: Tally, kind: str, bidirectional: bool) -> None:
    # Lengths 4, 2 and 1: 7 rows of 12 padded ones.
    model = module(kind, bidirectional=bidirectional)
    packed = pack_padded_sequence(torch.randn(STEPS, BATCH, WIDTH), LENGTHS)
    directions = 2 if bidirectional else 1
    expected = directions * 2 * 7 * GATES[kind] * HIDDEN * (WIDTH + HIDDEN)
    assert tally(train(model, packed)).forward == expected
    with torch.no_grad():
        assert tally(lambda: model(packed)).forward == expected


def test_projections_count(tally: Tally) -> None:
    # 2 * T*B * (4h * (in + p) + p*h): the state that meets the hidden weights is the projected one.
    x = torch.randn(STEPS, BATCH, WIDTH)
    with pytest.warns(UserWarning, match="projections"):
        found = tally(train(module("LSTM", proj_size=PROJECTED), x))
    assert found.forward == 2 * 12 * (44 * (7 + 5) + 5 * 11) == 13_992
    written_out = tally(train(WrittenOut("LSTM", WIDTH, HIDDEN, PROJECTED), x, torch.zeros(BATCH, PROJECTED)))
    assert (found.forward, found.backward) == (written_out.forward, written_out.backward)


@pytest.mark.parametrize("kind", GATES)
def test_cells_count_one_step(tally: Tally, kind: str) -> None:
    # 2 * B * gates*h * (in + h)
    cell = getattr(nn, f"{kind}Cell")(WIDTH, HIDDEN)
    x = torch.randn(BATCH, WIDTH)
    expected = 2 * BATCH * GATES[kind] * HIDDEN * (WIDTH + HIDDEN)
    assert tally(lambda: cell(x)).forward == expected
    with torch.inference_mode():
        assert tally(lambda: cell(x)).forward == expected
    # Neither the input nor the initial state asks for a gradient: each weight's gradient, nothing else.
    assert tally(train(cell, x)).backward == expected


def specs(model: nn.Module, needs_grad: bool = True) -> list[TensorSpec]:
    return [TensorSpec(tuple(each.shape), needs_grad=needs_grad) for each in model.parameters()]


@pytest.mark.parametrize(
    ("op", "kind", "options"),
    [
        ("aten._cudnn_rnn", "LSTM", {"bidirectional": True}),
        ("aten._cudnn_rnn", "LSTM", {"proj_size": PROJECTED}),
        ("aten._cudnn_rnn", "GRU", {"bias": False}),
        ("aten._cudnn_rnn", "RNN", {}),
        ("aten.miopen_rnn", "LSTM", {"bias": False}),
        ("aten.miopen_rnn", "GRU", {"bidirectional": True}),
    ],
    ids=str,
)
@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["padded", "packed"])
@pytest.mark.parametrize("mask", [[False, False, False, True], [True, True, True, True], [True, False, False, False]])
@pytest.mark.filterwarnings("ignore:LSTM with projections")
def test_device_kernels_count_as_single_steps(
    tally: Tally, flops: Flops, op: str, kind: str, options: dict[str, Any], lengths: list[int] | None, mask: list[bool]
) -> None:
    data, sizes = TensorSpec((STEPS, BATCH, WIDTH)), []
    with step_by_step():
        model = module(kind, num_layers=2, **options)
        for each in model.parameters():
            each.requires_grad_(mask[3])
        states = 2 * (2 if model.bidirectional else 1)
        x: Any = torch.randn(STEPS, BATCH, WIDTH, requires_grad=mask[0])
        hx = torch.zeros(states, BATCH, model.proj_size or HIDDEN, requires_grad=mask[1])
        if lengths:
            x = pack_padded_sequence(x, lengths)
            data, sizes = TensorSpec((sum(lengths), WIDTH)), x.batch_sizes.tolist()
        initial = (hx, torch.zeros(states, BATCH, HIDDEN)) if kind == "LSTM" else hx
        truth = tally(train(model, x, initial))
    parameters, h0, c0 = specs(model), TensorSpec(tuple(hx.shape)), TensorSpec((states, BATCH, HIDDEN))
    per_cell = len(parameters) // states
    cell = c0 if kind == "LSTM" else None
    projected = (model.proj_size,) if "cudnn" in op else ()
    sized = (2, HIDDEN, *projected, 2, False, 0.0, True, model.bidirectional, sizes, None)
    buffer = (TensorSpec((0,)),) if "cudnn" in op else ()
    assert flops(op, data, parameters, per_cell, *buffer, h0, cell, *sized) == truth.forward
    forward = (data, parameters, per_cell, TensorSpec((0,)), h0, cell, data, data, None, None)
    assert flops(f"{op}_backward", *forward, *sized, TensorSpec((0,)), mask) == truth.backward


def test_layers_on_apple_devices_count_as_single_steps(tally: Tally, flops: Flops) -> None:
    with step_by_step():
        model = module("LSTM", num_layers=2)
        truth = tally(train(model, torch.randn(STEPS, BATCH, WIDTH)))
    x = TensorSpec((STEPS, BATCH, WIDTH), needs_grad=False)
    hx = [TensorSpec((2, BATCH, HIDDEN), needs_grad=False)] * 2
    options = (True, 2, 0.0, True, False, False)
    assert flops("aten._lstm_mps", x, hx, specs(model), *options) == truth.forward
    saved = (x, None, None, x, x, x, x)
    assert flops("aten.lstm_mps_backward", *saved, hx, specs(model), *options) == truth.backward


def test_a_layer_with_nothing_to_train_before_it_counts_no_gradients(flops: Flops) -> None:
    # Two layers; autograd asks for the weights, but the first layer's are frozen: its steps are not gone back through.
    model = module("LSTM", num_layers=2)
    parameters = specs(model, needs_grad=False)[:4] + specs(model)[4:]
    x, state = TensorSpec((STEPS, BATCH, WIDTH)), TensorSpec((2, BATCH, HIDDEN))
    sized = (2, HIDDEN, 0, 2, False, 0.0, True, False, [], None, TensorSpec((0,)), [False, False, False, True])
    found = flops("aten._cudnn_rnn_backward", x, parameters, 4, x, state, state, x, x, None, None, *sized)
    rows, weight = STEPS * BATCH, 4 * HIDDEN * HIDDEN
    # Both matrices' gradients, and what goes back through all steps but the first.
    assert found == 2 * (2 * rows * weight + (rows - BATCH) * weight)


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_dynamically_quantized_layers_count_as_plain_ones(tally: Tally, kind: str) -> None:
    model = module(kind, num_layers=2, bidirectional=True)
    quantized = torch.ao.quantization.quantize_dynamic(nn.Sequential(model), {type(model)})
    x = torch.randn(STEPS, BATCH, WIDTH)
    packed = pack_padded_sequence(x, LENGTHS)
    for inputs in (x, packed):
        found = tally(lambda inputs=inputs: quantized(inputs))
        assert f"aten.quantized_{kind.lower()}" in found.by_op()
        assert found.total == tally(lambda inputs=inputs: model(inputs)).total


@pytest.mark.parametrize("kind", GATES)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_dynamically_quantized_cells_count_as_plain_ones(tally: Tally, kind: str) -> None:
    cell = getattr(nn, f"{kind}Cell")(WIDTH, HIDDEN)
    quantized = torch.ao.quantization.quantize_dynamic(nn.Sequential(cell), {type(cell)})
    x = torch.randn(BATCH, WIDTH)
    found = tally(lambda: quantized(x))
    assert any(op.startswith("quantized.") for op in found.by_op())
    assert found.total == tally(lambda: cell(x)).total
