"""The decoder's closed form against hand calculations, its equations, and laws."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_flopguard.core.errors import SizeError
from pytest_flopguard.formulas.architectures.decoder_sizes import DecoderSizes, Experts, Latent
from pytest_flopguard.formulas.architectures.models import parameters
from pytest_flopguard.formulas.architectures.parameters import active_parameters, decoder_parameters
from pytest_flopguard.formulas.architectures.transformer import decode_token, decoder

SMALL = DecoderSizes(width=8, layers=2, heads=4, kv_heads=2, ff=12, gated=True, vocab=10)
EXPERTS = Experts(number=6, top_k=2, ff=5, shared_ff=7)
LATENT = Latent(kv_rank=6, nope=3, rope=2, value=4, q_rank=5)


@st.composite
def decoders(draw):
    kv = draw(st.integers(1, 3))
    layers = draw(st.integers(1, 4))
    latent = draw(st.sampled_from([None, LATENT, replace(LATENT, q_rank=0)]))
    experts = draw(st.sampled_from([None, EXPERTS, replace(EXPERTS, shared_gate=True, gated=False)]))
    return DecoderSizes(
        width=draw(st.integers(1, 9)),
        layers=layers,
        heads=kv * draw(st.integers(1, 3)),
        kv_heads=kv,
        head_dim=draw(st.integers(1, 5)),
        ff=draw(st.integers(1, 9)),
        gated=draw(st.booleans()),
        vocab=draw(st.integers(1, 20)),
        windows=tuple(draw(st.lists(st.integers(0, 6), min_size=layers, max_size=layers))),
        latent=latent,
        experts=experts,
        dense_layers=tuple(draw(st.sets(st.integers(0, layers - 1)))) if experts else (),
    )


def test_a_small_decoder_by_hand():
    # B=3, s=5, h=8, a=4, g=2, d=8/4=2, f=12, V=10, L=2. Tokens: 15.
    form = decoder(SMALL, batch=3, seq=5)
    assert form.by_name() == {
        "mlp": 17_280,  # 2 layers * 2*15 * 3*8*12
        "qkv": 7_680,  # 2 * 2*15 * 8*(8 + 2*2*2)
        "out": 3_840,  # 2 * 2*15 * 8*8
        "attention_scores": 2_400,  # 2 * 2*3*4*2 * 5*5
        "attention_values": 2_400,
        "lm_head": 2_400,  # 2*15 * 8*10
    }
    assert form.forward == 36_000
    assert form.backward == 72_000
    assert [(each.name, each.times) for each in form if each.name in ("mlp", "lm_head")] == [("mlp", 2), ("lm_head", 1)]


def test_causal_counts_only_what_the_mask_leaves():
    # 5*6/2 = 15 pairs instead of 25: 2 layers * 2*3*4*2 * 15 = 1,440 for scores and as much for values.
    form = decoder(SMALL, batch=3, seq=5, attention="causal")
    assert form.by_name()["attention_scores"] == 1_440
    assert decoder(SMALL, batch=3, seq=5).forward - form.forward == 2 * (2_400 - 1_440)


def test_windows():
    # Layer 0 sees all 15 pairs, layer 1 with a window of 2 keys 1+2+2+2+2 = 9: 2*3*4*2 * (15 + 9) = 1,152.
    sizes = replace(SMALL, windows=(0, 2))
    assert decoder(sizes, batch=3, seq=5, attention="causal").by_name()["attention_scores"] == 1_152
    # A masked dense kernel computes all of it.
    assert decoder(sizes, batch=3, seq=5) == decoder(SMALL, batch=3, seq=5)


def test_mixture_of_experts_by_hand():
    # 15 tokens, h=8: router 2*15*8*6, experts 2*15 * 2*3*8*5, shared 2*15 * 3*8*7; layer 0 keeps the MLP 2*15 * 3*8*12.
    form = decoder(replace(SMALL, experts=EXPERTS, dense_layers=(0,)), batch=3, seq=5).by_name()
    assert {name: form[name] for name in ("router", "experts", "shared_expert", "mlp")} == {
        "router": 1_440,
        "experts": 7_200,
        "shared_expert": 5_040,
        "mlp": 8_640,
    }


def test_latent_attention_by_hand():
    # 15 tokens, h=8, a=4, q=5, c=6, n=3, r=2, v=4, 2 layers of 2*15 * ...
    form = decoder(replace(SMALL, latent=LATENT), batch=3, seq=5).by_name()
    names = ("q_down", "q_up", "kv_down", "kv_up", "out", "attention_scores", "attention_values")
    assert {name: form[name] for name in names} == {
        "q_down": 2_400,  # 60 * 8*5
        "q_up": 6_000,  # 60 * 5*4*(3 + 2)
        "kv_down": 3_840,  # 60 * 8*(6 + 2)
        "kv_up": 10_080,  # 60 * 6*4*(3 + 4)
        "out": 7_680,  # 60 * 4*4*8
        "attention_scores": 6_000,  # 2 * 2*3*4*(3 + 2)*25
        "attention_values": 4_800,  # 2 * 2*3*4*4*25
    }


def test_logits_of_the_last_position_only():
    # 2*3*8*10 instead of 2*15*8*10.
    assert decoder(SMALL, batch=3, seq=5, logits=1).by_name()["lm_head"] == 480
    assert "lm_head" not in decoder(SMALL, batch=3, seq=5, logits=0).by_name()


def test_key_lengths_of_a_cache():
    # Layer 0 meets 7 keys, layer 1 a ring of 4: 2*3*4*2 * (2*7 + 2*4).
    form = decoder(SMALL, batch=3, seq=2, past=5, keys=(7, 4))
    assert form.by_name()["attention_scores"] == 1_056


def test_decoding_a_token():
    # The matrices meet one token, the query all keys: 8*(8+8) + 8*8 + 3*8*12 = 480 in 2 layers, and 80 of the head;
    # 2*(2*480 + 80) + 2 layers * 4*4*2 * 10 keys.
    assert decode_token(SMALL, past=9).forward == 2_080 + 640
    assert decode_token(SMALL, past=9, attention="causal").forward == decode_token(SMALL, past=9).forward


def test_latents_are_expanded_again():
    # One token after 9: keys and values of all 10 positions are rebuilt, 2*10 * 6*4*(3 + 4) in each of 2 layers.
    form = decode_token(replace(SMALL, latent=LATENT), past=9)
    assert form.by_name()["kv_up"] == 6_720
    assert form.by_name()["kv_down"] == 2 * 2 * 8 * (6 + 2)


@given(decoders(), st.integers(1, 3), st.integers(1, 6), st.integers(0, 5), st.sampled_from(["dense", "causal"]))
def test_every_equation_gives_its_number(sizes, batch, seq, past, attention):
    form = decoder(sizes, batch=batch, seq=seq, past=past, attention=attention)
    for term in form:
        assert eval(term.equation, {}, dict(form.symbols)) == term.each, term


@given(decoders(), st.integers(1, 3), st.integers(1, 6))
def test_sequences_do_not_meet(sizes, batch, seq):
    assert decoder(sizes, batch=batch, seq=seq).forward == batch * decoder(sizes, seq=seq).forward


@given(decoders(), st.integers(1, 4), st.integers(1, 4))
def test_causal_work_can_be_done_in_pieces(sizes, first, second):
    # A prefill and a continuation after it do what one pass over both does: where the cache holds keys and values.
    sizes = replace(sizes, latent=None)
    whole = decoder(sizes, seq=first + second, attention="causal").forward
    parts = decoder(sizes, seq=first, attention="causal").forward
    assert parts + decoder(sizes, seq=second, past=first, attention="causal").forward == whole


@given(decoders(), st.integers(1, 4), st.integers(1, 8))
def test_linear_work_is_twice_the_active_matrices(sizes, batch, seq):
    # What is multiplied with every token are the parameters less the tables, norms and sleeping experts.
    form = decoder(sizes, batch=batch, seq=seq)
    linear = form.forward - sum(each.forward for each in form if each.name.startswith("attention"))
    tables = {name: decoder_parameters(sizes).get(name, 0) for name in ("embedding", "positions", "norms")}
    assert linear == 2 * batch * seq * (active_parameters(sizes) - sum(tables.values()))


def test_dense_multi_head_sum():
    # B*L*(24*s*h^2 + 4*s^2*h) + 2*B*s*h*V (Korthikanti et al. 2022, eq. 7, over 3).
    h, L, s, V, B = 24, 3, 7, 50, 2
    sizes = DecoderSizes(width=h, layers=L, heads=4, ff=4 * h, vocab=V)
    assert decoder(sizes, batch=B, seq=s).forward == B * L * (24 * s * h**2 + 4 * s**2 * h) + 2 * B * s * h * V


def test_full_and_selective_recompute():
    form = decoder(SMALL, batch=3, seq=5)
    # All but the logits again: forward 36,000 - 2,400. Attention alone: scores and values.
    assert form.recomputed(but=("lm_head",)).recompute == 33_600
    assert form.recomputed("attention_scores", "attention_values").recompute == 4_800
    assert form.recomputed("attention_scores", "attention_values").hardware_step == 108_000 + 4_800


def test_parameters_by_hand():
    # V*h = 80 twice, per layer 8*(8+8) + 64 + 288 + 2*8, and one norm of 8.
    assert decoder_parameters(SMALL) == {
        "embedding": 80,
        "qkv": 256,
        "out": 128,
        "mlp": 576,
        "norms": 40,
        "lm_head": 80,
    }
    assert parameters(replace(SMALL, tied=True)) == 1_160 - 80
    # Biases: 8+2*2*2 = 16 for qkv, 8 out, 2*12+8 for the MLP, in 2 layers; norms double.
    biased = replace(SMALL, qkv_bias=True, out_bias=True, mlp_bias=True, norm_bias=True)
    assert parameters(biased) == 1_160 + 2 * (16 + 8 + 32) + 40


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"width": 0}, "width = 0: expected a whole number, 1 or more"),
        ({"layers": -1}, "layers = -1"),
        ({"heads": 3}, "heads = 3: expected a multiple of kv_heads = 2"),
        ({"kv_heads": 3}, "heads = 4: expected a multiple of kv_heads = 3"),
        ({"width": 9}, "width = 9: expected a multiple of heads = 4"),
        ({"ff": 0}, "ff = 0"),
        ({"vocab": 1.5}, "vocab = 1.5"),
        ({"windows": (1,)}, "windows = '1 windows': expected one for each of layers = 2"),
        ({"windows": (1, -1)}, "windows = -1"),
        ({"dense_layers": (2,), "experts": EXPERTS}, "dense_layers = 2: expected less than layers = 2"),
    ],
)
def test_impossible_sizes(wrong, told):
    sizes = {"width": 8, "layers": 2, "heads": 4, "kv_heads": 2, "ff": 12, "vocab": 10} | wrong
    with pytest.raises(SizeError) as raised:
        DecoderSizes(**sizes)
    assert told in str(raised.value)
    assert str(raised.value).endswith("[bad-size]")


@pytest.mark.parametrize("wrong", [{"seq": 0}, {"batch": 0}, {"past": -1}, {"logits": -1}, {"keys": (1,)}])
def test_impossible_inputs(wrong):
    with pytest.raises(SizeError):
        decoder(SMALL, **({"seq": 4} | wrong))


def test_more_experts_for_a_token_than_there_are():
    with pytest.raises(SizeError, match=r"experts.top_k = 7: expected at most experts.number = 6"):
        Experts(number=6, top_k=7, ff=4)
