"""Sizes that are known by a name, as their published configs give them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from pytest_flopguard.core.errors import ArchitectureError, message, nearest

Config = Mapping[str, object]


def _llama(h: int, f: int, layers: int, heads: int, kv: int = 0, vocab: int = 32000, **more: object) -> Config:
    return {
        "model_type": "llama",
        "hidden_size": h,
        "intermediate_size": f,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv or heads,
        "vocab_size": vocab,
        **more,
    }


def _gpt2(h: int, layers: int, heads: int) -> Config:
    return {
        "model_type": "gpt2",
        "n_embd": h,
        "n_layer": layers,
        "n_head": heads,
        "n_positions": 1024,
        "vocab_size": 50257,
    }


def _neox(h: int, layers: int, heads: int, vocab: int) -> Config:
    return {
        "model_type": "gpt_neox",
        "hidden_size": h,
        "intermediate_size": 4 * h,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "vocab_size": vocab,
    }


def _bloom(h: int, layers: int, heads: int) -> Config:
    return {"model_type": "bloom", "hidden_size": h, "n_layer": layers, "n_head": heads, "vocab_size": 250880}


def _mpt(h: int, layers: int, heads: int) -> Config:
    return {"model_type": "mpt", "d_model": h, "n_layers": layers, "n_heads": heads, "vocab_size": 50432}


def _bert(h: int, layers: int, heads: int) -> Config:
    return {
        "model_type": "bert",
        "hidden_size": h,
        "intermediate_size": 4 * h,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "vocab_size": 30522,
        "max_position_embeddings": 512,
    }


def _t5(h: int, f: int, layers: int, heads: int, d: int = 64) -> Config:
    return {
        "model_type": "t5",
        "d_model": h,
        "d_ff": f,
        "num_layers": layers,
        "num_heads": heads,
        "d_kv": d,
        "vocab_size": 32128,
    }


def _vit(h: int, layers: int, heads: int, patch: int, image: int = 224) -> Config:
    return {
        "model_type": "vit",
        "hidden_size": h,
        "intermediate_size": 4 * h,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "image_size": image,
        "patch_size": patch,
        "num_labels": 1000,
    }


def _whisper(h: int, layers: int, heads: int, *, decoder_layers: int = 0, mel: int = 80, vocab: int = 51865) -> Config:
    return {
        "model_type": "whisper",
        "d_model": h,
        "encoder_layers": layers,
        "decoder_layers": decoder_layers or layers,
        "encoder_attention_heads": heads,
        "decoder_attention_heads": heads,
        "encoder_ffn_dim": 4 * h,
        "decoder_ffn_dim": 4 * h,
        "num_mel_bins": mel,
        "vocab_size": vocab,
    }


def _qwen2(h: int, f: int, layers: int, heads: int, kv: int, vocab: int, *, tied: bool = False) -> Config:
    return {**_llama(h, f, layers, heads, kv, vocab), "model_type": "qwen2", "tie_word_embeddings": tied}


def _gemma(model_type: str, h: int, f: int, layers: int, heads: int, kv: int, d: int, **more: object) -> Config:
    vocab = 262208 if model_type == "gemma3_text" else 256000
    return {**_llama(h, f, layers, heads, kv, vocab, head_dim=d), "model_type": model_type, **more}


def _deepseek(h: int, f: int, layers: int, heads: int, vocab: int, **more: object) -> Config:
    return {
        "hidden_size": h,
        "intermediate_size": f,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "vocab_size": vocab,
        "kv_lora_rank": 512,
        "qk_nope_head_dim": 128,
        "qk_rope_head_dim": 64,
        "v_head_dim": 128,
        **more,
    }


_MISTRAL = {**_llama(4096, 14336, 32, 32, 8), "model_type": "mistral", "sliding_window": 4096}
_MIXTRAL = {"model_type": "mixtral", "num_experts_per_tok": 2, "num_local_experts": 8}
_GPT_OSS = {"model_type": "gpt_oss", "head_dim": 64, "sliding_window": 128, "num_experts_per_tok": 4}
_QWEN3_MOE = {"model_type": "qwen3_moe", "head_dim": 128, "num_experts": 128, "num_experts_per_tok": 8}

PRESETS: Mapping[str, Config] = MappingProxyType(
    {
        "bert-base": _bert(768, 12, 12),
        "bert-large": _bert(1024, 24, 16),
        "bloom-560m": _bloom(1024, 24, 16),
        "bloom-1b7": _bloom(2048, 24, 16),
        "bloom-7b1": _bloom(4096, 30, 32),
        "bloom-176b": _bloom(14336, 70, 112),
        "deepseek-v2": _deepseek(
            5120, 12288, 60, 128, 102400,
            model_type="deepseek_v2", q_lora_rank=1536, n_routed_experts=160, n_shared_experts=2,
            num_experts_per_tok=6, moe_intermediate_size=1536, first_k_dense_replace=1,
        ),
        "deepseek-v2-lite": _deepseek(
            2048, 10944, 27, 16, 102400,
            model_type="deepseek_v2", q_lora_rank=None, n_routed_experts=64, n_shared_experts=2,
            num_experts_per_tok=6, moe_intermediate_size=1408, first_k_dense_replace=1,
        ),
        "deepseek-v3": _deepseek(
            7168, 18432, 61, 128, 129280,
            model_type="deepseek_v3", q_lora_rank=1536, n_routed_experts=256, n_shared_experts=1,
            num_experts_per_tok=8, moe_intermediate_size=2048, first_k_dense_replace=3,
        ),
        "falcon-7b": {
            "model_type": "falcon", "hidden_size": 4544, "num_hidden_layers": 32, "num_attention_heads": 71,
            "vocab_size": 65024, "multi_query": True, "parallel_attn": True, "bias": False,
        },
        "falcon-40b": {
            "model_type": "falcon", "hidden_size": 8192, "num_hidden_layers": 60, "num_attention_heads": 128,
            "num_kv_heads": 8, "vocab_size": 65024, "new_decoder_architecture": True, "bias": False,
        },
        "gemma-2b": _gemma("gemma", 2048, 16384, 18, 8, 1, 256),
        "gemma-7b": _gemma("gemma", 3072, 24576, 28, 16, 16, 256),
        "gemma-2-2b": _gemma("gemma2", 2304, 9216, 26, 8, 4, 256, sliding_window=4096),
        "gemma-2-9b": _gemma("gemma2", 3584, 14336, 42, 16, 8, 256, sliding_window=4096),
        "gemma-2-27b": _gemma("gemma2", 4608, 36864, 46, 32, 16, 128, sliding_window=4096),
        "gemma-3-1b": {
            **_gemma("gemma3_text", 1152, 6912, 26, 4, 1, 256, sliding_window=512), "vocab_size": 262144,
        },
        "gemma-3-12b": _gemma("gemma3_text", 3840, 15360, 48, 16, 8, 256, sliding_window=1024),
        "gemma-3-27b": _gemma("gemma3_text", 5376, 21504, 62, 32, 16, 128, sliding_window=1024),
        "gpt2": _gpt2(768, 12, 12),
        "gpt2-medium": _gpt2(1024, 24, 16),
        "gpt2-large": _gpt2(1280, 36, 20),
        "gpt2-xl": _gpt2(1600, 48, 25),
        "gpt-3-175b": {**_gpt2(12288, 96, 96), "n_positions": 2048},
        "gpt-neox-20b": _neox(6144, 44, 64, 50432),
        "gpt-oss-20b": {**_llama(2880, 2880, 24, 64, 8, 201088), **_GPT_OSS, "num_local_experts": 32},
        "gpt-oss-120b": {**_llama(2880, 2880, 36, 64, 8, 201088), **_GPT_OSS, "num_local_experts": 128},
        "llama-7b": _llama(4096, 11008, 32, 32),
        "llama-13b": _llama(5120, 13824, 40, 40),
        "llama-33b": _llama(6656, 17920, 60, 52),
        "llama-65b": _llama(8192, 22016, 80, 64),
        "llama-2-7b": _llama(4096, 11008, 32, 32),
        "llama-2-13b": _llama(5120, 13824, 40, 40),
        "llama-2-70b": _llama(8192, 28672, 80, 64, 8),
        "llama-3-8b": _llama(4096, 14336, 32, 32, 8, 128256),
        "llama-3-70b": _llama(8192, 28672, 80, 64, 8, 128256),
        "llama-3.1-405b": _llama(16384, 53248, 126, 128, 8, 128256),
        "mistral-7b": _MISTRAL,
        "mixtral-8x7b": {**_llama(4096, 14336, 32, 32, 8), **_MIXTRAL},
        "mixtral-8x22b": {**_llama(6144, 16384, 56, 48, 8, 32768), **_MIXTRAL},
        "mpt-7b": _mpt(4096, 32, 32),
        "mpt-30b": _mpt(7168, 48, 64),
        "pythia-1.4b": _neox(2048, 24, 16, 50304),
        "pythia-6.9b": _neox(4096, 32, 32, 50432),
        "pythia-12b": _neox(5120, 36, 40, 50688),
        "qwen2.5-0.5b": _qwen2(896, 4864, 24, 14, 2, 151936, tied=True),
        "qwen2.5-7b": _qwen2(3584, 18944, 28, 28, 4, 152064),
        "qwen2.5-72b": _qwen2(8192, 29568, 80, 64, 8, 152064),
        "qwen3-8b": {**_llama(4096, 12288, 36, 32, 8, 151936, head_dim=128), "model_type": "qwen3"},
        "qwen3-30b-a3b": {**_llama(2048, 6144, 48, 32, 4, 151936), **_QWEN3_MOE, "moe_intermediate_size": 768},
        "starcoder": {
            "model_type": "gpt_bigcode", "n_embd": 6144, "n_layer": 40, "n_head": 48, "n_inner": 24576,
            "n_positions": 8192, "vocab_size": 49152,
        },
        "starcoder2-7b": {
            "model_type": "starcoder2", "hidden_size": 4608, "intermediate_size": 18432, "num_hidden_layers": 32,
            "num_attention_heads": 36, "num_key_value_heads": 4, "vocab_size": 49152, "sliding_window": 4096,
        },
        "t5-small": _t5(512, 2048, 6, 8),
        "t5-base": _t5(768, 3072, 12, 12),
        "t5-large": _t5(1024, 4096, 24, 16),
        "t5-3b": _t5(1024, 16384, 24, 32, 128),
        "t5-11b": _t5(1024, 65536, 24, 128, 128),
        "vit-b-16": _vit(768, 12, 12, 16),
        "vit-b-32": _vit(768, 12, 12, 32),
        "vit-l-16": _vit(1024, 24, 16, 16),
        "vit-l-32": _vit(1024, 24, 16, 32),
        "vit-h-14": _vit(1280, 32, 16, 14),
        "whisper-tiny": _whisper(384, 4, 6),
        "whisper-base": _whisper(512, 6, 8),
        "whisper-small": _whisper(768, 12, 12),
        "whisper-medium": _whisper(1024, 24, 16),
        "whisper-large-v2": _whisper(1280, 32, 20),
        "whisper-large-v3": _whisper(1280, 32, 20, mel=128, vocab=51866),
        "whisper-large-v3-turbo": _whisper(1280, 32, 20, decoder_layers=4, mel=128, vocab=51866),
    }
)  # fmt: skip


def preset(name: str) -> Config:
    """Return the config of a name, for ``from_config``; ArchitectureError with the nearest where none has it."""
    if name not in PRESETS:
        hint = nearest(name, PRESETS)
        raise ArchitectureError(message("unknown-architecture", name=name, hint=hint, known=", ".join(PRESETS)))
    return PRESETS[name]
