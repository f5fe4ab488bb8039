"""Activation formulas against the storages that real layers save for backward."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.utils.checkpoint import checkpoint
from transformers import AutoModelForCausalLM, LlamaConfig, MixtralConfig, PretrainedConfig, Qwen3Config
from transformers.models.llama.modeling_llama import LlamaDecoderLayer, LlamaRotaryEmbedding

from pytest_flopguard.core.errors import SizeError, UnknownNameError
from pytest_flopguard.formulas.architectures.decoder_sizes import DecoderSizes, Experts, Latent
from pytest_flopguard.formulas.memory.activations import layer_activations
from pytest_flopguard.formulas.memory.decoder import decoder_activations
from pytest_flopguard.formulas.memory.saved_tensors import checkpointed_layer, gpt_layer, llama_edges, llama_layer

B, S, H, A = 2, 64, 128, 8
SIZES: dict[str, Any] = {"batch": B, "sequence": S, "width": H, "heads": A}
DTYPES = [("bfloat16", torch.bfloat16), ("float32", torch.float32)]


def inputs(dtype: torch.dtype, batch: int = B, sequence: int = S, width: int = H) -> torch.Tensor:
    torch.manual_seed(0)
    return torch.randn(batch, sequence, width, dtype=dtype, requires_grad=True)


# 34sbh + 5as^2b + 8sb = 557,056 + 327,680 + 1,024; masks of 2 bytes add as^2b + 2sbh = 65,536 + 32,768;
# without dropout 32sbh + 2as^2b + 8sb; under flash 32sbh + 4asb + 8sb.
@pytest.mark.parametrize(
    ("dropout", "flash", "expected"),
    [
        ("bool-mask", False, 885_760),
        ("own-dtype-mask", False, 984_064),
        ("none", False, 656_384),
        ("none", True, 529_408),
    ],
)
def test_a_gpt_layer(
    dropout: str, flash: bool, expected: int, saved_bytes: Callable[..., int], megatron_layer: Callable[..., Any]
) -> None:
    layer = megatron_layer(width=H, heads=A, dtype=torch.bfloat16, dropout=dropout, flash=flash)
    x = inputs(torch.bfloat16)
    assert saved_bytes(lambda: layer(x), layer.parameters()) == expected
    assert gpt_layer(**SIZES, dtype="bf16", dropout=dropout, flash=flash).total == expected


@pytest.mark.parametrize(("name", "dtype"), DTYPES)
@pytest.mark.parametrize("dropout", ["none", "bool-mask", "own-dtype-mask"])
@pytest.mark.parametrize("flash", [False, True])
@pytest.mark.parametrize("groups", [4, 2, 1])
def test_gpt_layers_of_other_shapes(
    name: str,
    dtype: torch.dtype,
    dropout: str,
    flash: bool,
    groups: int,
    saved_bytes: Callable[..., int],
    megatron_layer: Callable[..., Any],
) -> None:
    dropout = "none" if flash else dropout
    shape: dict[str, Any] = {"width": 48, "heads": 4, "head_dim": 16, "kv_heads": groups, "ff": 80}
    layer = megatron_layer(**shape, dtype=dtype, dropout=dropout, flash=flash)
    x = inputs(dtype, batch=3, sequence=20, width=48)
    found = gpt_layer(batch=3, sequence=20, **shape, dtype=name, dropout=dropout, flash=flash)
    assert found.total == saved_bytes(lambda: layer(x), layer.parameters())


def test_the_paper_leaves_out_the_statistics_only() -> None:
    # 8sb of LayerNorm statistics: 2 norms * mean and rstd * 2 bytes.
    assert gpt_layer(**SIZES, dtype="bf16").total - layer_activations(**SIZES).total == 8 * S * B


# (2n + 2e)sbh + 4e*sbh + 4e*sb*ff + 4asb + 8sb with kv = h/4: bf16, n = 8: 20 + 4 = 24sbh as published.
@pytest.mark.parametrize(("name", "dtype"), DTYPES)
@pytest.mark.parametrize(("groups", "head_dim"), [(8, 16), (2, 16), (1, 24)])
def test_a_llama_layer_with_torchs_norm(
    name: str,
    dtype: torch.dtype,
    groups: int,
    head_dim: int,
    saved_bytes: Callable[..., int],
    own_llama_layer: Callable[..., Any],
) -> None:
    shape: dict[str, Any] = {"width": H, "heads": A, "kv_heads": groups, "head_dim": head_dim, "ff": 320}
    layer, x = own_llama_layer(**shape, dtype=dtype), inputs(dtype)
    expected = llama_layer(batch=B, sequence=S, **shape, dtype=name)
    assert saved_bytes(lambda: layer(x), layer.parameters()) == expected.total
    if head_dim == 16:
        # The two forms as published: 24sbh + 8sb*ff + 4sb*kv + 4asb + 8sb, and at 4 bytes 32, 16 and 8.
        sbh, kv, e = S * B * H, groups * head_dim, dtype.itemsize
        published = {2: 24, 4: 32}[e] * sbh + 4 * e * S * B * 320 + 2 * e * S * B * kv + 4 * A * S * B + 8 * S * B
        assert expected.total == published


@pytest.mark.parametrize(("name", "dtype"), DTYPES)
@pytest.mark.parametrize("groups", [8, 2, 1])
def test_a_llama_layer_of_transformers(
    name: str, dtype: torch.dtype, groups: int, saved_bytes: Callable[..., int]
) -> None:
    config = LlamaConfig(
        hidden_size=H,
        intermediate_size=320,
        num_attention_heads=A,
        num_key_value_heads=groups,
        attn_implementation="sdpa",
    )
    layer, x = LlamaDecoderLayer(config, 0).to(dtype), inputs(dtype)
    # The rotation's tables belong to the model, not to a layer.
    tables = LlamaRotaryEmbedding(config)(x, torch.arange(S)[None])
    expected = llama_layer(**SIZES, kv_heads=groups, ff=320, dtype=name, norm="transformers").total
    run = saved_bytes(lambda: layer(x, position_embeddings=tables, attention_mask=None), [*layer.parameters(), *tables])
    assert run == expected


SMALL: dict[str, Any] = {
    "vocab_size": 70,
    "hidden_size": 32,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "head_dim": 16,
    "attn_implementation": "sdpa",
    "use_cache": False,
}
SMALL_SIZES: dict[str, Any] = {"width": 32, "layers": 3, "heads": 4, "head_dim": 16, "vocab": 70, "gated": True}


def kept_by(model: Any, saved_bytes: Callable[..., int]) -> int:
    """Bytes that a training forward of 2 x 24 tokens keeps, the loss included."""
    ids = torch.randint(3, 60, (2, 24))
    return saved_bytes(lambda: model(ids, labels=ids), [*model.parameters(), *model.buffers()])


@pytest.mark.parametrize(("name", "dtype"), DTYPES)
@pytest.mark.parametrize("groups", [4, 2])
@pytest.mark.parametrize(("config", "extra"), [(LlamaConfig, 0), (Qwen3Config, 2 * 16)])
def test_a_whole_model_of_transformers(
    config: type[PretrainedConfig],
    extra: int,
    name: str,
    dtype: torch.dtype,
    groups: int,
    saved_bytes: Callable[..., int],
) -> None:
    """Layers and edges together are all that a training forward keeps, to the last byte; Qwen3 norms its heads."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config(**SMALL, num_key_value_heads=groups)).to(dtype)
    sizes = DecoderSizes(**SMALL_SIZES, kv_heads=groups, ff=80, layer_extra=extra)
    layers = decoder_activations(sizes, batch=2, sequence=24, dtype=name)
    edges = llama_edges(batch=2, sequence=24, width=32, head_dim=16, vocab=70, dtype=name)
    assert kept_by(model, saved_bytes) == (layers + edges).total


@pytest.mark.parametrize(("name", "dtype"), DTYPES)
@pytest.mark.parametrize("implementation", ["grouped_mm", "eager"])
@pytest.mark.parametrize(("experts", "top_k"), [(4, 1), (4, 2), (6, 3)])
def test_a_whole_mixtral_of_transformers(
    implementation: str, experts: int, top_k: int, name: str, dtype: torch.dtype, saved_bytes: Callable[..., int]
) -> None:
    config = MixtralConfig(
        **SMALL,
        num_key_value_heads=2,
        num_local_experts=experts,
        num_experts_per_tok=top_k,
        experts_implementation=implementation,
    )
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).to(dtype)
    mixture = Experts(number=experts, top_k=top_k, ff=80)
    sizes = DecoderSizes(**SMALL_SIZES, kv_heads=2, ff=0, experts=mixture)
    layers = decoder_activations(sizes, batch=2, sequence=24, dtype=name, experts=implementation)
    edges = llama_edges(batch=2, sequence=24, width=32, head_dim=16, vocab=70, dtype=name)
    assert kept_by(model, saved_bytes) == (layers + edges).total


@pytest.mark.parametrize("reentrant", [True, False])
def test_full_recompute_keeps_the_input(
    reentrant: bool, saved_bytes: Callable[..., int], megatron_layer: Callable[..., Any]
) -> None:
    layer, x = megatron_layer(width=H, heads=A, dtype=torch.bfloat16), inputs(torch.bfloat16)
    found = saved_bytes(lambda: checkpoint(layer, x, use_reentrant=reentrant), layer.parameters())
    # 2sbh = 2 * 64 * 2 * 128
    assert found == checkpointed_layer(batch=B, sequence=S, width=H, dtype="bf16").total == 32_768


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("tensor", [1, 2, 4])
def test_a_decoders_shard_is_a_smaller_layer(
    gated: bool,
    tensor: int,
    saved_bytes: Callable[..., int],
    megatron_layer: Callable[..., Any],
    own_llama_layer: Callable[..., Any],
) -> None:
    """One device's part is a layer with heads/t heads and f/t, which one process can run."""
    sizes = DecoderSizes(width=H, layers=3, heads=A, kv_heads=2, ff=256, vocab=100, gated=gated)
    make = own_llama_layer if gated else lambda **shape: megatron_layer(**shape, flash=True)
    # Two key heads over four devices: each has one of them.
    groups = max(1, 2 // tensor)
    shard = make(width=H, heads=A // tensor, kv_heads=groups, head_dim=16, ff=256 // tensor, dtype=torch.bfloat16)
    x = inputs(torch.bfloat16)
    found = decoder_activations(sizes, batch=B, sequence=S, dtype="bf16", tensor=tensor, norm="torch")
    assert found.total == 3 * saved_bytes(lambda: shard(x), shard.parameters())


def test_sequence_parallelism_divides_the_norms() -> None:
    sizes = DecoderSizes(width=H, layers=1, heads=A, kv_heads=2, ff=256, vocab=100, gated=True)
    options: dict[str, Any] = {"batch": B, "sequence": S, "dtype": "bf16", "tensor": 2}
    whole, split = (decoder_activations(sizes, **options, sequence_parallel=each).by_name() for each in (False, True))
    assert {name for name in whole if split[name] != whole[name]} == {"norms", "norm_statistics"}
    assert split["norms"] * 2 == whole["norms"]


def test_recompute_of_a_decoder() -> None:
    sizes = DecoderSizes(width=H, layers=2, heads=A, ff=512, vocab=100)
    options: dict[str, Any] = {"batch": B, "sequence": S, "dtype": "bf16", "flash": False}
    # 2 layers of 656,384, less 2as^2b = 131,072 each, or 2sbh = 32,768 each
    assert decoder_activations(sizes, **options).total == 2 * 656_384
    assert decoder_activations(sizes, **options, recompute="selective").total == 2 * (656_384 - 131_072)
    assert decoder_activations(sizes, **options, recompute="full").total == 2 * 32_768


PLAIN: dict[str, Any] = {"width": 16, "layers": 2, "heads": 2, "vocab": 10, "ff": 8}
MIXTURE = Experts(number=4, top_k=2, ff=8)


@pytest.mark.parametrize(
    ("sizes", "options", "told"),
    [
        ({"gated": True}, {"flash": False}, r"flash = False: expected True for a gated MLP"),
        ({"gated": True, "layer_norms": 4}, {}, r"layer_norms = 4: expected 2"),
        ({"layer_norms": 1}, {}, r"layer_norms = 1: expected 2"),
        ({"gated": True, "layer_extra": 5}, {}, r"layer_extra = 5: expected 0, or the norms"),
        ({"layer_extra": 16}, {}, r"layer_extra = 16: expected 0"),
        ({"latent": Latent(kv_rank=4, nope=4, rope=4, value=4)}, {}, r"latent = .*: expected no latent attention"),
        (
            {"experts": Experts(number=4, top_k=2, ff=8, shared_ff=8)},
            {},
            r"experts = .*: expected gated experts",
        ),
        (
            {"experts": Experts(number=4, top_k=2, ff=8, gated=False)},
            {},
            r"experts = .*: expected gated experts",
        ),
        ({"experts": MIXTURE, "dense_layers": (0,)}, {}, r"experts = .*: expected gated experts"),
        ({"experts": MIXTURE}, {"tensor": 2}, r"tensor parallel size = 2: expected 1 with experts"),
    ],
)
def test_what_was_not_measured_has_no_number(sizes: dict[str, Any], options: dict[str, Any], told: str) -> None:
    with pytest.raises(SizeError, match=told):
        decoder_activations(DecoderSizes(**PLAIN, **sizes), batch=1, sequence=8, dtype="bf16", **options)


def test_checkpoints_are_known_of_any_layer() -> None:
    # e*sbh of each of two layers
    sizes = DecoderSizes(**PLAIN, experts=Experts(number=4, top_k=2, ff=8, shared_ff=8))
    found = decoder_activations(sizes, batch=1, sequence=8, dtype="bf16", recompute="full")
    assert found.total == 2 * 2 * 8 * 16


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: gpt_layer(**SIZES, dtype="bf16", dropout="bool"), "unknown dropout 'bool'.*did you mean 'bool-mask'"),
        (lambda: gpt_layer(**SIZES, dtype="tf32"), "unknown storage dtype 'tf32'"),
        (lambda: llama_layer(**SIZES, kv_heads=2, ff=8, dtype="bf16", norm="hf"), "unknown norm 'hf'"),
        (
            lambda: decoder_activations(
                DecoderSizes(**PLAIN, experts=MIXTURE), batch=1, sequence=8, dtype="bf16", experts="batched_mm"
            ),
            "unknown experts implementation 'batched_mm'; known are eager, grouped_mm",
        ),
        (
            lambda: decoder_activations(
                DecoderSizes(width=16, layers=1, heads=2, vocab=10, ff=8),
                batch=1,
                sequence=8,
                dtype="bf16",
                recompute="ful",
            ),
            "unknown recompute 'ful'.*did you mean 'full'",
        ),
    ],
)
def test_unknown_names(call: Callable[[], object], told: str) -> None:
    with pytest.raises(UnknownNameError, match=told):
        call()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"batch": 0}, "batch = 0"),
        ({"heads": 7}, "width = 128: expected a multiple of heads = 7"),
        ({"kv_heads": 3}, "heads = 8: expected a multiple of kv_heads = 3"),
        ({"ff": -1}, "ff = -1"),
    ],
)
def test_bad_sizes(changes: dict[str, int], told: str) -> None:
    with pytest.raises(SizeError, match=told):
        gpt_layer(**{**SIZES, "dtype": "bf16", **changes})
