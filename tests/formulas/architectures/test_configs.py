"""Configs as sizes: what is read, what is filled in, and what is refused."""

from __future__ import annotations

import pytest

from pytest_flopguard.core.errors import ArchitectureError, ConfigError, SizeError
from pytest_flopguard.formulas.architectures.decoder_sizes import DecoderSizes
from pytest_flopguard.formulas.architectures.families import from_config
from pytest_flopguard.formulas.architectures.models import closed_form, parameter_terms, parameters
from pytest_flopguard.formulas.architectures.presets import PRESETS, preset
from pytest_flopguard.formulas.architectures.vision_transformer import VisionSizes

LLAMA = {
    "model_type": "llama", "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 4,
    "num_attention_heads": 8, "num_key_value_heads": 2, "vocab_size": 100,
}  # fmt: skip


def decoder_sizes(**fields: object) -> DecoderSizes:
    found = from_config({**LLAMA, **fields})
    assert isinstance(found, DecoderSizes)
    return found


@pytest.mark.parametrize("name", PRESETS)
def test_every_equation_of_every_preset_gives_its_number(name):
    sizes = from_config(preset(name))
    seq = 1 if isinstance(sizes, VisionSizes) else 32
    form = closed_form(sizes, seq=seq)
    for term in form:
        assert eval(term.equation, {}, dict(form.symbols)) == term.each, term
    assert form.forward == sum(form.by_name().values()) > 0
    assert parameters(sizes) == sum(parameter_terms(sizes).values())


@pytest.mark.parametrize("name", ["llama-3-8b", "t5-base", "whisper-tiny"])
def test_a_token_after_others(name):
    sizes = from_config(preset(name))
    whole, token = closed_form(sizes, seq=8), closed_form(sizes, seq=1, past=7)
    # The encoder and its keys and values are done before.
    assert not [each for each in token if each.name.startswith(("encoder", "conv", "cross_kv"))]
    assert 0 < token.forward < whole.forward


@pytest.mark.parametrize("name", ["bert-base", "vit-b-16"])
def test_no_cache_where_there_is_none(name):
    with pytest.raises(SizeError, match=r"past = 3: expected 0: \w+ has no cache"):
        closed_form(from_config(preset(name)), past=3)


def test_images_have_no_length():
    with pytest.raises(SizeError, match="seq = 2: expected 1: vit reads whole images"):
        closed_form(from_config(preset("vit-b-16")), seq=2)


def test_what_older_configs_leave_out():
    # Llama 1's config has no key heads and no head width, GPT-2's an inner width of null.
    old = {key: value for key, value in LLAMA.items() if key != "num_key_value_heads"}
    assert from_config(old) == decoder_sizes(num_key_value_heads=8)
    assert decoder_sizes().head_dim == 8
    gpt2 = from_config({**preset("gpt2"), "n_inner": None})
    assert isinstance(gpt2, DecoderSizes)
    assert gpt2.ff == 4 * 768


def test_windows():
    assert decoder_sizes(model_type="mistral", sliding_window=8).windows == (8, 8, 8, 8)
    assert decoder_sizes(model_type="mistral", sliding_window=None).windows == ()
    assert decoder_sizes(sliding_window=8).windows == ()
    assert decoder_sizes(model_type="gemma2", sliding_window=8).windows == (8, 0, 8, 0)
    six = decoder_sizes(model_type="gemma3_text", sliding_window=8, num_hidden_layers=7)
    assert six.windows == (8, 8, 8, 8, 8, 0, 8)
    qwen = {"model_type": "qwen2", "sliding_window": 8, "max_window_layers": 2}
    assert decoder_sizes(**qwen).windows == ()
    assert decoder_sizes(**qwen, use_sliding_window=True).windows == (0, 0, 8, 8)
    # Newer configs say it layer by layer.
    types = ["full_attention", "sliding_attention", "full_attention", "full_attention"]
    assert decoder_sizes(model_type="gemma2", sliding_window=8, layer_types=types).windows == (0, 8, 0, 0)


def test_layers_without_experts():
    moe = {"model_type": "qwen3_moe", "num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
    assert decoder_sizes(**moe).dense_layers == ()
    assert decoder_sizes(**moe, mlp_only_layers=[1]).dense_layers == (1,)
    assert decoder_sizes(**moe, decoder_sparse_step=2).dense_layers == (0, 2)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"hidden_size": None}, "the config of 'llama': hidden_size is missing"),
        ({"hidden_size": None, "hidden_sizes": 64}, "hidden_size is missing; did you mean 'hidden_sizes'?"),
        ({"head_dims": 8}, "unknown field 'head_dims'; did you mean 'head_dim'?"),
        ({"tie_word_embedding": True}, "unknown field 'tie_word_embedding'; did you mean 'tie_word_embeddings'?"),
        ({"hidden_size": "64"}, "hidden_size = '64': expected a whole number, 0 or more"),
        ({"hidden_size": -1}, "hidden_size = -1"),
        ({"hidden_size": 64.0}, "hidden_size = 64.0"),
        ({"attention_bias": "no"}, "attention_bias = 'no': expected true or false"),
        ({"layer_types": ["full_attention"]}, "expected one for each of 4 layers"),
        ({"layer_types": ["linear_attention"] * 4}, "layer_types has linear_attention"),
        ({"model_type": "qwen3_moe", "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 4,
          "mlp_only_layers": "1"}, "mlp_only_layers = '1': expected a list of whole numbers"),
    ],
)  # fmt: skip
def test_configs_that_cannot_be_read(fields, told):
    with pytest.raises(ConfigError) as raised:
        from_config({**LLAMA, **fields})
    assert told in str(raised.value)
    assert str(raised.value).endswith("[bad-config]")


def test_configs_of_another_model():
    with pytest.raises(ConfigError, match="no_bias = False: the formula holds for True only"):
        from_config({**preset("mpt-7b"), "no_bias": False})
    with pytest.raises(ConfigError, match="attn_type = 'multiquery_attention'"):
        from_config({**preset("mpt-7b"), "attn_config": {"attn_type": "multiquery_attention"}})
    with pytest.raises(ConfigError, match="attn_config = 3: expected a table"):
        from_config({**preset("mpt-7b"), "attn_config": 3})
    with pytest.raises(ConfigError, match="add_cross_attention = True"):
        from_config({**preset("gpt2"), "add_cross_attention": True})
    with pytest.raises(ConfigError, match="feed_forward_proj = 3: expected a text"):
        from_config({**preset("t5-small"), "feed_forward_proj": 3})


def test_sizes_that_do_not_divide():
    with pytest.raises(SizeError, match="heads = 8: expected a multiple of kv_heads = 3"):
        decoder_sizes(num_key_value_heads=3)


def test_unknown_names_tell_the_nearest():
    with pytest.raises(ArchitectureError, match=r"'lama'; did you mean 'llama'\?; known are bert, bloom.*unknown-arch"):
        from_config({**LLAMA, "model_type": "lama"})
    with pytest.raises(ArchitectureError, match=r"'llama-2-7'; did you mean 'llama-2-7b'\?"):
        preset("llama-2-7")
    with pytest.raises(ArchitectureError, match=r"architecture ''"):
        from_config({})
