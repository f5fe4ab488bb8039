"""KV cache formulas against printed sizes and against what transformers really stores."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from cache_names import cache_in, with_cache
from transformers import (
    AutoModelForCausalLM,
    DeepseekV2Config,
    DeepseekV3Config,
    Gemma3TextConfig,
    GPT2Config,
    GPTBigCodeConfig,
    LlamaConfig,
    MistralConfig,
    PretrainedConfig,
)

from pytest_flopguard.core.errors import SizeError
from pytest_flopguard.formulas.architectures.decoder_sizes import DecoderSizes, Latent
from pytest_flopguard.formulas.memory.decoder import decoder_caches, decoder_kv_cache
from pytest_flopguard.formulas.memory.kv_cache import (
    LayerCache,
    constant,
    expanded,
    grouped,
    heads_on_device,
    kv_cache_bytes,
    kv_cache_elements,
    latent,
)

# Special tokens must lie within the small vocabulary.
TINY: dict[str, Any] = {
    "vocab_size": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_attention_heads": 4,
}
LATENT: dict[str, Any] = {
    **TINY,
    "num_hidden_layers": 2,
    "num_key_value_heads": 4,
    "kv_lora_rank": 16,
    "q_lora_rank": 12,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 6,
    "v_head_dim": 10,
    "head_dim": 8,
    "moe_intermediate_size": 16,
    "n_routed_experts": 4,
    "n_shared_experts": 1,
    "num_experts_per_tok": 2,
    "n_group": 1,
    "topk_group": 1,
    "first_k_dense_replace": 1,
}


def stored(config: PretrainedConfig, *, batch: int, prompt: int, new: int = 0, storages: bool = False) -> int:
    """Bytes that the cache of a model holds after a prompt and some single tokens; of elements, or of storages."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        cache = cache_in(model(torch.randint(3, 60, (batch, prompt)), use_cache=True))
        for _ in range(new):
            cache = cache_in(model(torch.randint(3, 60, (batch, 1)), **with_cache(model, cache)))
    tensors = [each for layer in cache.layers for each in (layer.keys, layer.values)]
    if storages:
        return sum({each.untyped_storage().data_ptr(): each.untyped_storage().nbytes() for each in tensors}.values())
    return sum(each.nbytes for each in tensors)


@pytest.mark.parametrize(
    ("config", "layers", "cache"),
    [
        pytest.param(
            GPT2Config(vocab_size=64, n_embd=32, n_layer=3, n_head=4, bos_token_id=1, eos_token_id=2),
            3,
            grouped(kv_heads=4, head_dim=8),
            id="MHA, GPT-2",
        ),
        pytest.param(
            LlamaConfig(**TINY, num_hidden_layers=2, num_key_value_heads=2),
            2,
            grouped(kv_heads=2, head_dim=8),
            id="GQA, Llama",
        ),
        pytest.param(
            GPTBigCodeConfig(vocab_size=64, n_embd=32, n_layer=2, n_head=4, bos_token_id=1, eos_token_id=2),
            2,
            grouped(kv_heads=1, head_dim=8),
            id="MQA, StarCoder",
        ),
        pytest.param(DeepseekV2Config(**LATENT), 2, latent(kv_rank=16, rope_dim=8), id="MLA, DeepSeek-V2"),
        pytest.param(DeepseekV3Config(**LATENT), 2, latent(kv_rank=16, rope_dim=8), id="MLA, DeepSeek-V3"),
    ],
)
def test_what_transformers_stores(config: PretrainedConfig, layers: int, cache: LayerCache) -> None:
    expected = kv_cache_bytes([cache] * layers, tokens=7 + 2, batch=3, dtype="float32")
    assert stored(config, batch=3, prompt=7, new=2) == expected


WINDOWED = MistralConfig(**TINY, num_hidden_layers=2, num_key_value_heads=2, sliding_window=4)


@pytest.mark.parametrize(("prompt", "new"), [(2, 0), (4, 0), (5, 0), (9, 0), (3, 1), (9, 3)])
def test_windows_of_transformers(prompt: int, new: int) -> None:
    """A token sees itself and w - 1 before it, and transformers keeps no more than those w - 1 for the next one."""
    kept = grouped(kv_heads=2, head_dim=8, window=4 - 1)
    expected = kv_cache_bytes([kept] * 2, tokens=prompt + new, batch=2, dtype="float32")
    assert stored(WINDOWED, batch=2, prompt=prompt, new=new) == expected


@pytest.mark.parametrize(("prompt", "new"), [(1, 1), (3, 1), (4, 1), (9, 1), (9, 3)])
def test_the_storages_behind_windows_hold_the_window(prompt: int, new: int) -> None:
    """What is kept is a view: after a step its storage has min(s, w) tokens, as the closed form says."""
    kept = grouped(kv_heads=2, head_dim=8, window=4)
    expected = kv_cache_bytes([kept] * 2, tokens=prompt + new, batch=2, dtype="float32")
    assert stored(WINDOWED, batch=2, prompt=prompt, new=new, storages=True) == expected


def test_a_fresh_prompt_is_held_whole() -> None:
    # Until the next step the view of a window keeps the storage of all nine tokens alive.
    expected = kv_cache_bytes([grouped(kv_heads=2, head_dim=8)] * 2, tokens=9, batch=2, dtype="float32")
    assert stored(WINDOWED, batch=2, prompt=9, storages=True) == expected


def test_mixed_windows_of_transformers() -> None:
    config = Gemma3TextConfig(**TINY, num_hidden_layers=6, num_key_value_heads=2, head_dim=8, sliding_window=4)
    # Five of six layers have the window.
    layers = [grouped(kv_heads=2, head_dim=8, window=3)] * 5 + [grouped(kv_heads=2, head_dim=8)]
    assert stored(config, batch=2, prompt=9) == kv_cache_bytes(layers, tokens=9, batch=2, dtype="float32")


# DeepSeek-V2 (arXiv 2405.04434), MHA against MLA: elements per token "110.6K -> 15.6K" and "860.2K -> 34.6K".
@pytest.mark.parametrize(
    ("layers", "heads", "mha", "mla", "printed"),
    [(27, 16, 110_592, 15_552, (110.6, 15.6)), (60, 56, 860_160, 34_560, (860.2, 34.6))],
)
def test_deepseek_v2(layers: int, heads: int, mha: int, mla: int, printed: tuple[float, float]) -> None:
    # 2 * heads * 128 * layers; (512 + 64) * layers
    full = kv_cache_elements([grouped(kv_heads=heads, head_dim=128)] * layers, tokens=1)
    small = kv_cache_elements([latent(kv_rank=512, rope_dim=64)] * layers, tokens=1)
    assert (full, small) == (mha, mla)
    assert (round(full / 1000, 1), round(small / 1000, 1)) == printed


def test_mla_is_a_gqa_of_two_and_a_quarter_groups() -> None:
    # (512 + 64) / (2 * 128) = 2.25, as DeepSeek-V2 says.
    assert latent(kv_rank=512, rope_dim=64).elements / grouped(kv_heads=1, head_dim=128).elements == 2.25


def test_an_expanded_latent_cache() -> None:
    # DeepSeek-V3 with keys and values written out: 128 * (128 + 64 + 128) elements against 576, 71 times as many.
    wide = expanded(heads=128, nope_dim=128, rope_dim=64, value_dim=128)
    assert wide.elements == 40_960
    assert wide.elements // latent(kv_rank=512, rope_dim=64).elements == 71


LLAMA_2_7B = DecoderSizes(width=4096, layers=32, heads=32, ff=11008, vocab=32000, gated=True)
LLAMA_2_70B = DecoderSizes(width=8192, layers=80, heads=64, kv_heads=8, ff=28672, vocab=32000, gated=True)


def test_llama_2() -> None:
    # 2 * 32 * 128 * 32 * 2 bytes; 2 * 8 * 128 * 80 * 2 bytes
    assert decoder_kv_cache(LLAMA_2_7B, tokens=1, dtype="fp16") == 524_288
    assert decoder_kv_cache(LLAMA_2_70B, tokens=1, dtype="fp16") == 327_680


def test_the_scaling_book() -> None:
    # 8k tokens, 64 layers, keys and values of width 8192 in int8: 8 GiB.
    layers = [grouped(kv_heads=64, head_dim=128)] * 64
    assert kv_cache_bytes(layers, tokens=8192, dtype="int8") == 8 * 2**30


def test_caches_of_decoders() -> None:
    mixed = DecoderSizes(width=32, layers=3, heads=4, kv_heads=2, ff=8, vocab=9, windows=(4, 4, 0))
    assert decoder_caches(mixed) == (
        *(grouped(kv_heads=2, head_dim=8, window=4),) * 2,
        grouped(kv_heads=2, head_dim=8),
    )
    # 2 * 2 * 8 = 32 elements; 4 + 4 + 10 tokens
    assert decoder_kv_cache(mixed, tokens=10, dtype="bf16") == 2 * 32 * 18
    deep = DecoderSizes(width=32, layers=2, heads=4, ff=8, vocab=9, latent=Latent(kv_rank=16, nope=6, rope=8, value=10))
    assert decoder_kv_cache(deep, tokens=10, dtype="bf16") == 2 * 24 * 10 * 2


def test_heads_are_dealt_out_or_repeated() -> None:
    assert [heads_on_device(8, devices) for devices in (1, 2, 8, 16)] == [8, 4, 1, 1]
    # MLA and MQA caches lie whole on every device.
    assert kv_cache_bytes([latent(kv_rank=16, rope_dim=8)], tokens=1, dtype="int8", tensor=4) == 24
    assert decoder_kv_cache(LLAMA_2_70B, tokens=1, dtype="fp16", tensor=8) == 327_680 // 8
    with pytest.raises(SizeError, match="kv_heads = 8: expected a multiple of tensor parallel size = 3"):
        decoder_kv_cache(LLAMA_2_70B, tokens=1, dtype="fp16", tensor=3)
    with pytest.raises(SizeError, match="tensor parallel size = 12: expected a multiple of kv_heads = 8"):
        decoder_kv_cache(LLAMA_2_70B, tokens=1, dtype="fp16", tensor=12)


def test_layers_without_a_cache() -> None:
    layers = [constant(), grouped(kv_heads=1, head_dim=4)]
    assert kv_cache_elements(layers, tokens=5, tensor=1) == 8 * 5


def test_the_window_itself() -> None:
    cache = grouped(kv_heads=1, head_dim=1, window=4)
    assert [cache.tokens(seen) for seen in (0, 3, 4, 5)] == [0, 3, 4, 4]


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: grouped(kv_heads=0, head_dim=8), "kv_heads = 0"),
        (lambda: grouped(kv_heads=1, head_dim=8, window=0).tokens(3), "window = 0"),
        (lambda: kv_cache_elements([constant()], tokens=-1), "tokens = -1"),
        (lambda: kv_cache_elements([constant()], tokens=1, batch=0), "batch = 0"),
    ],
)
def test_bad_sizes(call: Any, told: str) -> None:
    with pytest.raises(SizeError, match=told):
        call()
