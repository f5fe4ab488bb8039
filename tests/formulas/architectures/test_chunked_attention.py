"""Causal linear attention in chunks: closed forms, three models counted in three forms, a printed table."""

from __future__ import annotations

import pytest
import torch
from zoo.chunked_attention import HGRN2, CosFormer2, GatedUnits, TransNormerLLM, next_token

from pytest_flopguard.core.errors import SizeError, UnknownNameError
from pytest_flopguard.formulas.architectures.chunked_attention import (
    decode_step,
    gated_units,
    lightning,
    published_step,
)
from pytest_flopguard.formulas.architectures.linear_attention import left_product
from pytest_flopguard.formulas.architectures.mixer import projections

B, N, D, H, C = 2, 48, 32, 4, 8

# Model, projections, features.
MODELS = {"TransNormerLLM": (TransNormerLLM, 5, 1), "HGRN2": (HGRN2, 4, 1), "cosFormer2": (CosFormer2, 4, 2)}


def test_equations(equations_hold):
    equations_hold(lightning(batch=3, seq=12, width=8, heads=2, chunk=4, features=2))
    equations_hold(decode_step(batch=3, width=8, heads=2, features=2))
    equations_hold(gated_units(batch=3, seq=5, width=8, inner=7))


def test_by_hand():
    # 3 chunks of 4 positions, 8 wide in 2 heads of 4, one feature: scores and values 2*12*4*8 = 768; a state of 4 x 4
    # in each head, 2*4*8*4 = 256 for each chunk, to read and to write.
    form = lightning(seq=12, width=8, heads=2, chunk=4)
    assert form.by_name() == {"scores": 768, "state_read": 768, "state_update": 768, "values": 768}
    # Backward: the first read once and not twice, the last write not at all.
    assert form.backward == 2 * form.forward - 256 - 2 * 256
    # 4*n*C*d + 4*n*d*d/h.
    assert form.forward == 4 * 12 * 4 * 8 + 4 * 12 * 8 * 4
    # One chunk: nothing was before it, nothing comes after.
    single = lightning(seq=4, width=8, heads=2, chunk=4)
    assert (single.forward, single.backward) == (4 * 256, 2 * 2 * 256 + 256)
    assert decode_step(width=8, heads=2).forward == 2 * 8 * 4
    assert gated_units(seq=5, width=8, inner=7).forward == 6 * 5 * 8 * 7


@pytest.mark.parametrize("name", MODELS)
def test_in_chunks(measured, tokens, name):
    model, number, features = MODELS[name]
    form = projections(batch=B, seq=N, width=D, number=number) + lightning(
        batch=B, seq=N, width=D, heads=H, chunk=C, features=features
    )
    assert measured(model(D, H, C), tokens(B, N, D)) == (form.forward, form.backward)


@pytest.mark.parametrize("name", MODELS)
def test_the_three_forms_agree(tokens, name):
    model, _, _ = MODELS[name]
    chunked, scores = model(D, H, C), model(D, H, None)
    scores.load_state_dict(chunked.state_dict())
    x = tokens(B, 16, D)
    torch.testing.assert_close(chunked(x), scores(x), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(chunked(x), chunked.generate(x), rtol=1e-3, atol=1e-4)


def test_version_1_forms_all_scores(measured, tokens):
    form = projections(batch=B, seq=N, width=D, number=5) + left_product(batch=B, seq=N, width=D, heads=H)
    assert measured(TransNormerLLM(D, H, None), tokens(B, N, D)) == (form.forward, form.backward)
    # One chunk has all scores and, besides, a state that nothing needs.
    one = lightning(batch=B, seq=N, width=D, heads=H, chunk=N)
    assert one.by_name()["scores"] + one.by_name()["values"] == 4 * B * N * N * D


@pytest.mark.parametrize("chunk", [4, 16, 48])
def test_longer_chunks_have_more_scores(measured, tokens, chunk):
    counts = measured(TransNormerLLM(D, H, chunk), tokens(1, N, D), backward=False).forward
    assert counts == 10 * N * D * D + 4 * N * chunk * D + 4 * N * D * D // H


def test_gated_units(measured, tokens):
    form = gated_units(batch=B, seq=N, width=D, inner=24)
    assert measured(GatedUnits(D, 24), tokens(B, N, D)) == (form.forward, form.backward)


@pytest.mark.parametrize("name", MODELS)
def test_growth(measured, tokens, slope, name):
    model, number, _ = MODELS[name]
    lengths = (64, 128, 512)

    def counts(chunk: int | None) -> list[int]:
        return [
            measured(model(D, H, chunk), tokens(1, n, D), backward=False).forward
            - projections(seq=n, width=D, number=number).forward
            for n in lengths
        ]

    assert slope(lengths, counts(16)) == pytest.approx(1, abs=1e-9)
    assert slope(lengths, counts(None)) == pytest.approx(2, abs=1e-9)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("before", [1, 10, 100])
def test_a_new_token_costs_the_same_after_any_text(measured, tokens, name, before):
    model, _, features = MODELS[name]
    with torch.no_grad():
        q, k, v, decay = model(D, H, C).inputs(tokens(B, before + 1, D))
    state = torch.zeros(B, H, q.shape[-1], v.shape[-1])
    for position in range(before):
        _, state = next_token(state, *(part[:, :, position] for part in (q, k, v, decay)))
    run = measured(next_token, state, *(part[:, :, before] for part in (q, k, v, decay)), backward=False)
    assert run.forward == decode_step(batch=B, width=D, heads=H, features=features).forward


# Shen et al. 2024 (arXiv 2406.16690): PFLOP of a training step of 480 texts of 8192 tokens, as printed. The
# row of 1B prints h = 16 and g = 5632; h = 12 and g = 4096 give its parameters and FLOPs. TNL and cosFormer2 of 410M
# have 25 layers, the others 26.
PRINTED = [
    # layers, width, heads, LLaMA, TNL, HGRN2, cosFormer2
    (6, 512, 4, "1.6", "0.5", "0.5", "0.5"),
    (12, 768, 6, "5.6", "2.2", "2.1", "2.3"),
    (26, 1024, 8, "18.0", "7.9", "8.0", "8.1"),
    (32, 1536, 12, "40.4", "22.3", "22.0", "22.7"),
    (35, 2560, 20, "99.6", "66.6", "66.0", "67.4"),
    (32, 4096, 32, "202.7", "154.4", "153.6", "155.6"),
]


@pytest.mark.parametrize("row", PRINTED)
@pytest.mark.parametrize("column", range(4))
def test_printed_steps(row, column):
    model = ("LLaMA", "TNL", "HGRN2", "cosFormer2")[column]
    layers, width, heads, *printed = row
    if layers == 26 and model in ("TNL", "cosFormer2"):
        layers = 25
    step = published_step(model, batch=480, seq=8192, layers=layers, width=width, heads=heads)
    # Printed in PFLOP to one digit after the point.
    assert f"{step / 1e15:.1f}" == printed[column]


def test_unknown_model():
    with pytest.raises(UnknownNameError, match="HGRN2"):
        published_step("HGRN", batch=1, seq=1, layers=1, width=4, heads=2)


@pytest.mark.parametrize(
    ("form", "told"),
    [
        (lambda: lightning(seq=10, width=8, heads=2, chunk=4), "a multiple of chunk = 4"),
        (lambda: lightning(seq=8, width=9, heads=2, chunk=4), "a multiple of heads = 2"),
        (lambda: lightning(seq=8, width=8, heads=2, chunk=4, features=0), "features"),
        (lambda: decode_step(width=9, heads=2), "a multiple of heads = 2"),
        (lambda: gated_units(seq=8, width=8, inner=0), "inner"),
        (lambda: published_step("TNL", batch=1, seq=1, layers=1, width=9, heads=2), "a multiple of heads = 2"),
    ],
)
def test_bad_sizes(form, told):
    with pytest.raises(SizeError, match=told):
        form()
