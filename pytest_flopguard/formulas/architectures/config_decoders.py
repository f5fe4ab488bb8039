"""The configs of decoder-only models: what each family writes, as DecoderSizes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count, repeat

from pytest_flopguard.formulas.architectures.config_fields import Fields
from pytest_flopguard.formulas.architectures.decoder_sizes import DecoderSizes, Experts, Latent

Pattern = Callable[[Fields], Iterator[bool]]


def never(fields: Fields) -> Iterator[bool]:
    """No layer has a window."""
    return repeat(False)


def always(fields: Fields) -> Iterator[bool]:
    """Every layer has a window, where one is given."""
    return repeat(True)


def every(period: int) -> Pattern:
    """Return the pattern in which all but each ``period``-th layer have a window."""
    return lambda fields: (
        bool((layer + 1) % fields.size("sliding_window_pattern", default=period)) for layer in count()
    )


def from_max_window_layers(fields: Fields) -> Iterator[bool]:
    """Qwen's: layers from max_window_layers on, if windows are used at all."""
    used, first = fields.flag("use_sliding_window", False), fields.size("max_window_layers", default=28)
    return (used and layer >= first for layer in count())


def llama(
    fields: Fields,
    *,
    slides: Pattern = never,
    tied: bool = False,
    head_dim: int = 0,
    qkv_bias: bool | None = None,
    out_bias: bool | None = None,
    layer_norms: int = 2,
    query_norms: bool = False,
) -> DecoderSizes:
    """Llama and those that write configs as it does: RMSNorm, gated MLP, grouped key heads."""
    layers, heads = fields.size("num_hidden_layers"), fields.size("num_attention_heads")
    width = fields.size("hidden_size")
    bias = fields.flag("attention_bias", False)
    sizes = DecoderSizes(
        name=fields.model_type,
        width=width,
        layers=layers,
        heads=heads,
        kv_heads=fields.size("num_key_value_heads", default=heads),
        head_dim=fields.size("head_dim", default=head_dim),
        ff=fields.size("intermediate_size"),
        vocab=fields.size("vocab_size"),
        gated=True,
        windows=fields.windows(layers, slides(fields)),
        tied=fields.flag("tie_word_embeddings", tied),
        qkv_bias=bias if qkv_bias is None else qkv_bias,
        out_bias=bias if out_bias is None else out_bias,
        mlp_bias=fields.flag("mlp_bias", False),
        layer_norms=layer_norms,
    )
    return replace(sizes, layer_extra=2 * sizes.head_dim) if query_norms else sizes


def mistral(fields: Fields) -> DecoderSizes:
    """Mistral: a window in every layer, where one is given."""
    return llama(fields, slides=always)


def gemma(fields: Fields) -> DecoderSizes:
    """Gemma: wide heads and a tied head."""
    return llama(fields, tied=True, head_dim=256)


def gemma2(fields: Fields) -> DecoderSizes:
    """Gemma 2: a window in every other layer, and norms after both halves of a block, too."""
    return llama(fields, slides=every(2), tied=True, head_dim=256, layer_norms=4)


def gemma3(fields: Fields) -> DecoderSizes:
    """Gemma 3's text model: five layers with a window for each without, norms of queries and keys."""
    return llama(fields, slides=every(6), tied=True, head_dim=256, layer_norms=4, query_norms=True)


def qwen2(fields: Fields) -> DecoderSizes:
    """Qwen 2 and 2.5: Llama with biases on queries, keys and values."""
    return llama(fields, slides=from_max_window_layers, qkv_bias=True, out_bias=False)


def qwen3(fields: Fields) -> DecoderSizes:
    """Qwen 3: norms of queries and keys instead of biases."""
    return llama(fields, slides=from_max_window_layers, head_dim=128, query_norms=True)


def mixtral(fields: Fields) -> DecoderSizes:
    """Mixtral: experts in every layer."""
    experts = Experts(
        number=fields.size("num_local_experts", default=8),
        top_k=fields.size("num_experts_per_tok", default=2),
        ff=fields.size("intermediate_size"),
    )
    return replace(llama(fields, slides=always), experts=experts)


def gpt_oss(fields: Fields) -> DecoderSizes:
    """gpt-oss: biases everywhere, a learned sink for each head, a window in every other layer."""
    experts = Experts(
        number=fields.size("num_local_experts"),
        top_k=fields.size("num_experts_per_tok", "experts_per_token"),
        ff=fields.size("intermediate_size"),
        bias=True,
        router_bias=True,
    )
    bias = fields.flag("attention_bias", True)
    sizes = llama(fields, slides=every(2), head_dim=64, qkv_bias=bias, out_bias=bias)
    return replace(sizes, experts=experts, layer_extra=sizes.heads)


def qwen2_moe(fields: Fields) -> DecoderSizes:
    """Qwen 1.5 and 2 with experts: a shared expert with a gate of its own."""
    experts = Experts(
        number=fields.size("num_experts"),
        top_k=fields.size("num_experts_per_tok"),
        ff=fields.size("moe_intermediate_size"),
        shared_ff=fields.size("shared_expert_intermediate_size"),
        shared_gate=True,
    )
    bias = fields.flag("qkv_bias", True)
    sizes = llama(fields, slides=from_max_window_layers, qkv_bias=bias, out_bias=False)
    return replace(sizes, experts=experts, dense_layers=_dense_layers(fields, sizes.layers))


def qwen3_moe(fields: Fields) -> DecoderSizes:
    """Qwen 3 with experts: none is shared."""
    experts = Experts(
        number=fields.size("num_experts", "num_local_experts"),
        top_k=fields.size("num_experts_per_tok"),
        ff=fields.size("moe_intermediate_size"),
    )
    # Its modules give every layer the window, if windows are used.
    sizes = llama(fields, slides=_if_used, query_norms=True)
    return replace(sizes, experts=experts, dense_layers=_dense_layers(fields, sizes.layers))


def deepseek(fields: Fields) -> DecoderSizes:
    """DeepSeek V2 and V3: latent attention, and shared experts after the first dense layers."""
    layers, heads = fields.size("num_hidden_layers"), fields.size("num_attention_heads")
    fields.fixed("moe_layer_freq", 1)
    ff = fields.size("moe_intermediate_size")
    bias = fields.flag("attention_bias", False)
    return DecoderSizes(
        name=fields.model_type,
        width=fields.size("hidden_size"),
        layers=layers,
        heads=heads,
        ff=fields.size("intermediate_size"),
        vocab=fields.size("vocab_size"),
        gated=True,
        latent=Latent(
            q_rank=fields.size("q_lora_rank", default=0),
            kv_rank=fields.size("kv_lora_rank"),
            nope=fields.size("qk_nope_head_dim"),
            rope=fields.size("qk_rope_head_dim"),
            value=fields.size("v_head_dim"),
        ),
        experts=Experts(
            number=fields.size("n_routed_experts"),
            top_k=fields.size("num_experts_per_tok"),
            ff=ff,
            shared_ff=fields.size("n_shared_experts", default=0) * ff,
            shared_bias=fields.flag("mlp_bias", False),
        ),
        dense_layers=tuple(range(min(layers, fields.size("first_k_dense_replace", default=0)))),
        head_dim=fields.size("qk_nope_head_dim") + fields.size("qk_rope_head_dim"),
        tied=fields.flag("tie_word_embeddings", False),
        qkv_bias=bias,
        out_bias=bias,
        mlp_bias=fields.flag("mlp_bias", False),
    )


def _if_used(fields: Fields) -> Iterator[bool]:
    return repeat(fields.flag("use_sliding_window", False))


def _dense_layers(fields: Fields, layers: int) -> tuple[int, ...]:
    step, plain = fields.size("decoder_sparse_step", default=1), fields.numbers("mlp_only_layers")
    return tuple(layer for layer in range(layers) if layer in plain or not step or (layer + 1) % step)
