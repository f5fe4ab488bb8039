"""The configs of decoder-only models in GPT's way, with LayerNorm and an MLP of two matrices, as DecoderSizes."""

from __future__ import annotations

from itertools import repeat

from pytest_flopguard.formulas.architectures.config_fields import Fields
from pytest_flopguard.formulas.architectures.decoder_sizes import DecoderSizes


def gpt2(fields: Fields) -> DecoderSizes:
    """GPT-2: biases everywhere, learned positions, a tied head."""
    fields.fixed("add_cross_attention", False)
    width = fields.size("n_embd", "hidden_size")
    return _gpt(fields, width, ff=fields.size("n_inner", "intermediate_size", default=4 * width))


def gpt_bigcode(fields: Fields) -> DecoderSizes:
    """StarCoder, SantaCoder: GPT-2 with one key head for all."""
    fields.fixed("add_cross_attention", False)
    width = fields.size("n_embd", "hidden_size")
    ff = fields.size("n_inner", "intermediate_size", default=4 * width)
    return _gpt(fields, width, ff=ff, kv_heads=1 if fields.flag("multi_query", True) else 0)


def _gpt(fields: Fields, width: int, *, ff: int, kv_heads: int = 0) -> DecoderSizes:
    return DecoderSizes(
        name=fields.model_type,
        width=width,
        layers=fields.size("n_layer", "num_hidden_layers"),
        heads=fields.size("n_head", "num_attention_heads"),
        kv_heads=kv_heads,
        ff=ff,
        vocab=fields.size("vocab_size"),
        tied=fields.flag("tie_word_embeddings", True),
        positions=fields.size("n_positions", "max_position_embeddings"),
        qkv_bias=True,
        out_bias=True,
        mlp_bias=True,
        norm_bias=True,
    )


def gpt_neox(fields: Fields) -> DecoderSizes:
    """GPT-NeoX and Pythia: rotary positions, an untied head, both halves of a block side by side."""
    bias = fields.flag("attention_bias", True)
    return DecoderSizes(
        name=fields.model_type,
        width=fields.size("hidden_size"),
        layers=fields.size("num_hidden_layers"),
        heads=fields.size("num_attention_heads"),
        ff=fields.size("intermediate_size"),
        vocab=fields.size("vocab_size"),
        tied=fields.flag("tie_word_embeddings", False),
        qkv_bias=bias,
        out_bias=bias,
        mlp_bias=True,
        norm_bias=True,
    )


def bloom(fields: Fields) -> DecoderSizes:
    """BLOOM: no position table, a norm after the embedding, a tied head."""
    width = fields.size("hidden_size", "n_embed")
    return DecoderSizes(
        name=fields.model_type,
        width=width,
        layers=fields.size("n_layer", "num_hidden_layers"),
        heads=fields.size("n_head", "num_attention_heads"),
        ff=4 * width,
        vocab=fields.size("vocab_size"),
        tied=fields.flag("tie_word_embeddings", True),
        qkv_bias=True,
        out_bias=True,
        mlp_bias=True,
        norm_bias=True,
        outer_norms=2,
    )


def falcon(fields: Fields) -> DecoderSizes:
    """Falcon: one key head for all, or grouped ones in its new architecture; one norm for both halves of a block."""
    width, heads = fields.size("hidden_size"), fields.size("num_attention_heads", "n_head")
    new = fields.flag("new_decoder_architecture", False)
    if new:
        kv_heads = fields.size("num_kv_heads", "n_head_kv", default=heads)
    else:
        kv_heads = 1 if fields.flag("multi_query", True) else heads
    norms = fields.size("num_ln_in_parallel_attn", default=2 if new else 1) if fields.flag("parallel_attn", True) else 2
    bias = fields.flag("bias", False)
    return DecoderSizes(
        name=fields.model_type,
        width=width,
        layers=fields.size("num_hidden_layers", "n_layer"),
        heads=heads,
        kv_heads=kv_heads,
        ff=fields.size("ffn_hidden_size", default=4 * width),
        vocab=fields.size("vocab_size"),
        tied=fields.flag("tie_word_embeddings", True),
        qkv_bias=bias,
        out_bias=bias,
        mlp_bias=bias,
        norm_bias=True,
        layer_norms=norms,
    )


def mpt(fields: Fields) -> DecoderSizes:
    """MPT: no biases, not even in the norms; ALiBi instead of positions."""
    fields.fixed("no_bias", True)
    attention = fields.inner("attn_config")
    if attention is not None:
        attention.model_type = fields.model_type
        attention.fixed("attn_type", "multihead_attention")
        attention.fixed("qk_ln", False)
    width = fields.size("d_model", "hidden_size")
    fields.fixed("expansion_ratio", 4)
    return DecoderSizes(
        name=fields.model_type,
        width=width,
        layers=fields.size("n_layers", "num_hidden_layers"),
        heads=fields.size("n_heads", "num_attention_heads"),
        ff=4 * width,
        vocab=fields.size("vocab_size"),
        tied=fields.flag("tie_word_embeddings", True),
    )


def starcoder2(fields: Fields) -> DecoderSizes:
    """StarCoder 2: grouped key heads, rotary positions, a window in every layer where one is given."""
    heads, layers = fields.size("num_attention_heads"), fields.size("num_hidden_layers")
    bias = fields.flag("use_bias", True)
    return DecoderSizes(
        name=fields.model_type,
        width=fields.size("hidden_size"),
        layers=layers,
        heads=heads,
        kv_heads=fields.size("num_key_value_heads", default=2),
        head_dim=fields.size("head_dim", default=0),
        ff=fields.size("intermediate_size"),
        vocab=fields.size("vocab_size"),
        windows=fields.windows(layers, repeat(True)),
        tied=fields.flag("tie_word_embeddings", True),
        qkv_bias=bias,
        out_bias=bias,
        mlp_bias=bias,
        norm_bias=True,
    )
