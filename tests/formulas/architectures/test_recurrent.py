"""Recurrent layers: closed forms, small models, torch's LSTM and transformers' RWKV counted; printed tables."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import RwkvConfig, RwkvForCausalLM
from zoo.recurrent import HGRN, SRU, ComplexHGRN, IndRNN, LinearRNN

from pytest_flopguard.core.errors import SizeError
from pytest_flopguard.formulas.architectures.recurrent import (
    hgrn,
    indrnn,
    linear_rnn,
    lstm,
    rwkv,
    rwkv_parameters,
    sru,
)

B, N, D, H = 3, 10, 12, 20

ALL = {
    "lstm": lstm(batch=3, seq=10, inputs=4, hidden=5),
    "sru": sru(batch=3, seq=10, width=4),
    "indrnn": indrnn(batch=3, seq=10, inputs=4, hidden=5),
    "linear rnn": linear_rnn(batch=3, seq=10, inputs=4, hidden=5),
    "hgrn": hgrn(batch=3, seq=10, width=4),
    "hgrn, complex": hgrn(batch=3, seq=10, width=4, complex_state=True),
    "rwkv": rwkv(batch=3, seq=10, layers=2, width=4, vocabulary=7),
}


@pytest.mark.parametrize("name", ALL)
def test_equations(equations_hold, name):
    equations_hold(ALL[name])


def test_by_hand():
    # 30 rows: 4 gates of 5, from 4 inputs 2*30*20*4 and from 5 units 2*30*20*5.
    assert ALL["lstm"].by_name() == {"hidden": 6_000, "input": 4_800}
    # The first step's 3 rows ask for no gradient of the state: 2*3*20*5 less.
    assert ALL["lstm"].backward == 2 * 10_800 - 600
    assert ALL["sru"].forward == 6 * 30 * 16
    assert ALL["indrnn"].forward == 2 * 30 * 4 * 5
    assert ALL["linear rnn"].forward == 4 * 30 * 4 * 5
    assert (ALL["hgrn"].forward, ALL["hgrn, complex"].forward) == (8 * 30 * 16, 14 * 30 * 16)
    # 26*n*d*d for each of 2 layers, and 7 logits.
    assert ALL["rwkv"].forward == 2 * 26 * 30 * 16 + 2 * 30 * 4 * 7


class Cells(nn.Module):
    """An LSTM cell in a loop."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(D, H)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        state, out = None, []
        for each in x.unbind(1):
            state = self.cell(each, state)
            out.append(state[0])
        return torch.stack(out, 1)


CASES = {
    "lstm, fused": (lambda: nn.LSTM(D, H, batch_first=True), lambda n: lstm(batch=B, seq=n, inputs=D, hidden=H)),
    "lstm, cells": (Cells, lambda n: lstm(batch=B, seq=n, inputs=D, hidden=H)),
    "sru": (lambda: SRU(D), lambda n: sru(batch=B, seq=n, width=D)),
    "indrnn": (lambda: IndRNN(D, H), lambda n: indrnn(batch=B, seq=n, inputs=D, hidden=H)),
    "linear rnn": (lambda: LinearRNN(D, H), lambda n: linear_rnn(batch=B, seq=n, inputs=D, hidden=H)),
    "hgrn": (lambda: HGRN(D), lambda n: hgrn(batch=B, seq=n, width=D)),
    "hgrn, complex": (lambda: ComplexHGRN(D), lambda n: hgrn(batch=B, seq=n, width=D, complex_state=True)),
}


@pytest.mark.parametrize("name", CASES)
def test_measured(measured, tokens, name):
    build, form = CASES[name]
    assert measured(build(), tokens(B, N, D)) == (form(N).forward, form(N).backward)
    # One position has a past of its own.
    assert measured(build(), tokens(B, 1, D)) == (form(1).forward, form(1).backward)


@pytest.mark.parametrize("name", CASES)
def test_growth(measured, tokens, slope, name):
    lengths = (16, 32, 128)
    counts = [measured(CASES[name][0](), tokens(B, n, D), backward=False).forward for n in lengths]
    assert slope(lengths, counts) == pytest.approx(1, abs=1e-9)


def test_layers_and_directions(measured, tokens):
    # Both directions of the second layer read both directions of the first.
    form = 2 * lstm(batch=B, seq=N, inputs=D, hidden=H) + 2 * lstm(batch=B, seq=N, inputs=2 * H, hidden=H)
    model = nn.LSTM(D, H, num_layers=2, bidirectional=True, batch_first=True)
    assert measured(model, tokens(B, N, D)) == (form.forward, form.backward)


@pytest.mark.parametrize("inner", [None, 24])
def test_rwkv_of_transformers(measured, inner):
    config = RwkvConfig(
        vocab_size=50, context_length=16, hidden_size=D, num_hidden_layers=3, intermediate_size=inner, use_cache=False
    )
    model = RwkvForCausalLM(config).train()
    form = rwkv(batch=B, seq=N, layers=3, width=D, vocabulary=50, inner=inner)
    run = measured(lambda x: model(x).logits, torch.randint(0, 50, (B, N)))
    assert run == (form.forward, form.backward) == (form.forward, 2 * form.forward)
    if inner is None:
        parameters = rwkv_parameters(layers=3, width=D, vocabulary=50)
        assert parameters == sum(each.numel() for each in model.parameters())


@pytest.mark.slow
def test_rwkv_7b(measured):
    # The 7B of table 2 below, four tokens: 4 * 1.437e10.
    config = RwkvConfig(vocab_size=50277, context_length=16, hidden_size=4096, num_hidden_layers=32, use_cache=False)
    with torch.device("meta"):
        model, text = RwkvForCausalLM(config).train(), torch.zeros(1, 4, dtype=torch.long)
    assert sum(each.numel() for each in model.parameters()) == 7_392_649_216
    assert measured(lambda x: model(x).logits, text) == (57_482_051_584, 2 * 57_482_051_584)
    assert rwkv(seq=4, layers=32, width=4096, vocabulary=50277).forward == 57_482_051_584


@pytest.mark.parametrize("before", [1, 5, 12])
def test_a_new_token_of_rwkv_costs_the_same_after_any_text(measured, before):
    model = RwkvForCausalLM(RwkvConfig(vocab_size=50, context_length=16, hidden_size=D, num_hidden_layers=3)).eval()
    with torch.no_grad():
        state = model(torch.randint(0, 50, (1, before)), use_cache=True).state
        token = torch.randint(0, 50, (1, 1))
        run = measured(lambda x: model(x, state=state, use_cache=True).logits, token, backward=False)
    # One text: transformers 5.23 adds old inputs [B, d] to new ones [B, 1, d], so that B texts cost B times as much.
    assert run.forward == rwkv(seq=1, layers=3, width=D, vocabulary=50).forward


# Peng et al. 2023 (arXiv 2305.13048), table 2, as printed: layers, width, parameters, FLOPs of a token.
@pytest.mark.parametrize(
    ("layers", "width", "parameters", "flops"),
    [
        (12, 768, "1.693e+08", "2.613e+08"),
        (24, 1024, "4.304e+08", "7.573e+08"),
        (24, 2048, "1.515e+09", "2.823e+09"),
        (32, 2560, "2.985e+09", "5.710e+09"),
        (32, 4096, "7.393e+09", "1.437e+10"),
        (40, 5120, "1.415e+10", "2.778e+10"),
    ],
)
def test_table_2_of_rwkv(layers, width, parameters, flops):
    assert f"{rwkv_parameters(layers=layers, width=width, vocabulary=50277):.3e}" == parameters
    token = rwkv(seq=1, layers=layers, width=width, vocabulary=50277)
    assert f"{token.forward:.3e}" == flops
    # Training is three times that, as the paper says.
    assert token.training_step == 3 * token.forward


@pytest.mark.parametrize(
    ("form", "told"),
    [
        (lambda: lstm(seq=0, inputs=4, hidden=4), "seq"),
        (lambda: sru(seq=4, width=-4), "width"),
        (lambda: indrnn(seq=4, inputs=0, hidden=4), "inputs"),
        (lambda: linear_rnn(seq=4, inputs=4, hidden=4.0), "hidden"),
        (lambda: hgrn(seq=4, width=4, batch=True), "batch"),
        (lambda: rwkv(seq=4, layers=1, width=4, vocabulary=5, inner=0), "inner"),
        (lambda: rwkv_parameters(layers=0, width=4, vocabulary=5), "layers"),
    ],
)
def test_bad_sizes(form, told):
    with pytest.raises(SizeError, match=told):
        form()
