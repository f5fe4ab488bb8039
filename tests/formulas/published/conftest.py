"""Sizes of the models that papers and tools print numbers of."""

from __future__ import annotations

from types import MappingProxyType

import pytest

from pytest_flopguard.formulas.architectures.decoder_sizes import DecoderSizes, Experts, Latent

LATENT = Latent(kv_rank=512, q_rank=1536, nope=128, rope=64, value=128)
LLAMA_3_70B = {"width": 8192, "layers": 80, "heads": 64, "kv_heads": 8, "ff": 28672, "gated": True}
MIXTRAL = {"width": 4096, "layers": 32, "heads": 32, "kv_heads": 8, "ff": 0, "vocab": 32000}

MODELS = MappingProxyType(
    {
        "gpt-3-175b": DecoderSizes(width=12288, layers=96, heads=96, ff=49152, vocab=51200),
        "llama-2-7b": DecoderSizes(width=4096, layers=32, heads=32, ff=11008, vocab=32000, gated=True),
        "llama-2-13b": DecoderSizes(width=5120, layers=40, heads=40, ff=13824, vocab=32000, gated=True),
        "llama-2-70b": DecoderSizes(**LLAMA_3_70B, vocab=32000),
        "llama-3-8b": DecoderSizes(width=4096, layers=32, heads=32, kv_heads=8, ff=14336, vocab=128256, gated=True),
        "llama-3-70b": DecoderSizes(**LLAMA_3_70B, vocab=128256),
        "gemma-2b": DecoderSizes(
            width=2048, layers=18, heads=8, kv_heads=1, head_dim=256, ff=16384, vocab=256128, gated=True
        ),
        "mixtral-8x7b": DecoderSizes(**MIXTRAL, experts=Experts(number=8, top_k=2, ff=14336)),
        "qwen2.5-7b": DecoderSizes(width=3584, layers=28, heads=28, kv_heads=4, ff=18944, vocab=152064, gated=True),
        "qwen3-8b": DecoderSizes(
            width=4096, layers=36, heads=32, kv_heads=8, head_dim=128, ff=12288, vocab=151936, gated=True
        ),
        "qwen3-30b-a3b": DecoderSizes(
            width=2048,
            layers=48,
            heads=32,
            kv_heads=4,
            head_dim=128,
            ff=0,
            vocab=151936,
            experts=Experts(number=128, top_k=8, ff=768),
        ),
        "mistral-small-24b": DecoderSizes(
            width=5120, layers=40, heads=32, kv_heads=8, head_dim=128, ff=32768, vocab=131072, gated=True
        ),
        "gemma-3-12b": DecoderSizes(
            width=3840,
            layers=48,
            heads=16,
            kv_heads=8,
            head_dim=256,
            ff=15360,
            vocab=262208,
            gated=True,
            windows=(1024, 1024, 1024, 1024, 1024, 0) * 8,
        ),
        "gpt-oss-20b": DecoderSizes(
            width=2880,
            layers=24,
            heads=64,
            kv_heads=8,
            head_dim=64,
            ff=0,
            vocab=201088,
            windows=(128, 0) * 12,
            experts=Experts(number=32, top_k=4, ff=2880),
        ),
        "deepseek-v2-16b": DecoderSizes(
            width=2048,
            layers=27,
            heads=16,
            ff=10944,
            vocab=102400,
            gated=True,
            dense_layers=(0,),
            experts=Experts(number=64, top_k=6, ff=1408, shared_ff=2 * 1408),
            latent=Latent(kv_rank=512, nope=128, rope=64, value=128),
        ),
        "deepseek-v2": DecoderSizes(
            width=5120,
            layers=60,
            heads=128,
            ff=12288,
            vocab=102400,
            gated=True,
            dense_layers=(0,),
            experts=Experts(number=160, top_k=6, ff=1536, shared_ff=2 * 1536),
            latent=LATENT,
        ),
        "deepseek-v3": DecoderSizes(
            width=7168,
            layers=61,
            heads=128,
            ff=18432,
            vocab=129280,
            gated=True,
            dense_layers=(0, 1, 2),
            experts=Experts(number=256, top_k=8, ff=2048, shared_ff=2048),
            latent=LATENT,
        ),
    }
)


@pytest.fixture(scope="session")
def models() -> MappingProxyType[str, DecoderSizes]:
    return MODELS
