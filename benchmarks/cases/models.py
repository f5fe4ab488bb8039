"""Small models of the transformers library, with random weights.

b batch, s positions, h width, a heads, ff feed-forward width, v vocabulary, l layers. Lookups, norms, activations,
softmax and rotary embeddings are in no count. The library is imported only by those that run.
"""

# A case says what it is by its name.
# ruff: noqa: D103

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from cases.case import Function, Program, case, rand, tokens

B, S, H, L, V = 2, 24, 64, 2, 100


def attention(b: int, s: int, h: int) -> int:
    """Four projections, scores and values."""
    return 4 * 2 * b * s * h**2 + 4 * b * s**2 * h


def mlp(b: int, s: int, h: int, ff: int) -> int:
    """Two matrices."""
    return 2 * 2 * b * s * h * ff


def logits(b: int, s: int, h: int, v: int) -> int:
    """One product with the vocabulary."""
    return 2 * b * s * h * v


def of(model: nn.Module, output: str) -> nn.Module:
    """A model that puts out one tensor, named."""
    return Function(lambda *args: getattr(model(*args), output), model)


def configured(config: Any, kernel: str = "sdpa") -> Any:
    """Set the attention kernel of a config."""
    config._attn_implementation = kernel
    return config


GPT2 = L * (attention(B, S, H) + mlp(B, S, H, 4 * H)) + logits(B, S, H, V)


def gpt2(kernel: str) -> Program:
    """GPT-2 of two layers."""
    import transformers

    config = transformers.GPT2Config(
        n_layer=L, n_embd=H, n_head=4, vocab_size=V, use_cache=False, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0
    )
    return of(transformers.GPT2LMHeadModel(configured(config, kernel)), "logits"), (tokens(B, S, V),)


@case("GPT-2, sdpa", GPT2)
def gpt2_sdpa() -> Program:
    return gpt2("sdpa")


@case("GPT-2, eager", GPT2)
def gpt2_eager() -> Program:
    return gpt2("eager")


# 8 query heads of 8, 2 heads of keys and values: kv = 16. Three matrices in the feed-forward.
LLAMA_ATTENTION = 2 * B * S * (2 * H**2 + 2 * H * 16) + 4 * B * S**2 * H
LLAMA = L * (LLAMA_ATTENTION + 3 * 2 * B * S * H * 96) + logits(B, S, H, V)
SHAPE = {
    "hidden_size": H, "intermediate_size": 96, "num_hidden_layers": L, "num_attention_heads": 8,
    "num_key_value_heads": 2, "vocab_size": V,
}  # fmt: skip


@case("Llama, grouped-query heads", LLAMA)
def llama() -> Program:
    import transformers

    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**SHAPE, use_cache=False))
    return of(model, "logits"), (tokens(B, S, V),)


# Each layer: a router to 4 experts, and 2 of them for each position.
MIXTRAL = L * (LLAMA_ATTENTION + 2 * B * S * H * 4 + 2 * 3 * 2 * B * S * H * 96) + logits(B, S, H, V)


@case("Mixtral, grouped mm", MIXTRAL)
def mixtral() -> Program:
    import transformers

    config = transformers.MixtralConfig(
        **SHAPE, head_dim=8, num_local_experts=4, num_experts_per_tok=2, use_cache=False, sliding_window=None
    )
    config._experts_implementation = "grouped_mm"
    return of(transformers.MixtralForCausalLM(config), "logits"), (tokens(B, S, V),)


# The pooler takes the first position.
@case("BERT", L * (attention(B, S, H) + mlp(B, S, H, 4 * H)) + 2 * B * H**2)
def bert() -> Program:
    import transformers

    config = transformers.BertConfig(
        hidden_size=H, num_hidden_layers=L, num_attention_heads=4, intermediate_size=4 * H, vocab_size=V,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    return of(transformers.BertModel(config), "pooler_output"), (tokens(B, S, V),)


# 4 x 4 patches of 8 x 8 pixels, three channels, and the class token: 17 positions. Ten classes.
@case(
    "ViT",
    2 * B * 16 * (3 * 8 * 8) * H + L * (attention(B, 17, H) + mlp(B, 17, H, 4 * H)) + 2 * B * H * 10,
)
def vit() -> Program:
    import transformers

    config = transformers.ViTConfig(
        hidden_size=H, num_hidden_layers=L, num_attention_heads=4, intermediate_size=4 * H, image_size=32,
        patch_size=8, num_labels=10, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    return of(transformers.ViTForImageClassification(config), "logits"), (rand(B, 3, 32, 32),)


# 7x7 stem, 64 to 32 pixels a side, pooled to 16. Basic blocks of two 3x3 convolutions: 16 channels at 16 x 16, then
# 32 channels at 8 x 8, whose first convolution takes 16 and whose shortcut is a 1x1 convolution. Ten classes.
RESNET = 2 * B * (
    16 * 3 * 49 * 32**2
    + 2 * 16 * 16 * 9 * 16**2
    + (32 * 16 * 9 + 32 * 32 * 9 + 32 * 16) * 8**2
    + 32 * 10
)  # fmt: skip


@case("ResNet, basic blocks", RESNET)
def resnet() -> Program:
    import transformers

    config = transformers.ResNetConfig(
        embedding_size=16, hidden_sizes=[16, 32], depths=[1, 1], layer_type="basic", num_labels=10
    )
    return of(transformers.ResNetForImageClassification(config), "logits"), (rand(B, 3, 64, 64),)


# Encoder layers; decoder layers with attention over the encoder: queries and output of 12 positions, keys and values
# of S.
CROSS = 2 * 2 * B * 12 * H**2 + 2 * 2 * B * S * H**2 + 4 * B * 12 * S * H
T5 = (
    L * (attention(B, S, H) + mlp(B, S, H, 128))
    + L * (attention(B, 12, H) + CROSS + mlp(B, 12, H, 128))
    + logits(B, 12, H, V)
)


@case("T5", T5)
def t5() -> Program:
    import transformers

    config = transformers.T5Config(
        d_model=H, d_kv=16, d_ff=128, num_layers=L, num_heads=4, vocab_size=V, dropout_rate=0.0, use_cache=False
    )
    model = transformers.T5ForConditionalGeneration(config)
    run = Function(lambda a, b: model(input_ids=a, decoder_input_ids=b).logits, model)
    return run, (tokens(B, S, V), tokens(B, 12, V))


# Eight tokens, then four more one by one: step t attends to 8 + t positions. Only the last position's logits are made.
GENERATED = (
    L * (attention(1, 8, H) + mlp(1, 8, H, 4 * H)) + logits(1, 1, H, V)
    + sum(L * (8 * H**2 + 4 * (8 + t) * H + mlp(1, 1, H, 4 * H)) + logits(1, 1, H, V) for t in (1, 2, 3))
)  # fmt: skip


@case("GPT-2, generate 4 tokens with a KV cache", GENERATED, grad=False)
def generate() -> Program:
    import transformers

    config = transformers.GPT2Config(n_layer=L, n_embd=H, n_head=4, vocab_size=V, bos_token_id=0, eos_token_id=None)
    model = transformers.GPT2LMHeadModel(config).eval()
    run = Function(lambda x: model.generate(x, max_new_tokens=4, do_sample=False, pad_token_id=0), model)
    return run, (tokens(1, 8, V),)


# Per layer: in 64 to 2 * 128; causal depthwise kernel 4 over 128 channels, S + 3 positions; 128 to dt 4 + 2 * 16;
# 4 to 128; the state [128, 16] read out by C at each step; out 128 to 64.
MAMBA = L * 2 * B * (
    S * H * 256 + (S + 3) * 128 * 4 + S * 128 * (4 + 2 * 16) + S * 4 * 128 + S * 128 * 16 + S * 128 * H
) + logits(B, S, H, V)  # fmt: skip


@case("Mamba", MAMBA)
def mamba() -> Program:
    import transformers

    config = transformers.MambaConfig(
        hidden_size=H, num_hidden_layers=L, vocab_size=V, state_size=16, time_step_rank=4, use_cache=False
    )
    return of(transformers.MambaForCausalLM(config), "logits"), (tokens(B, S, V),)


# An image of one channel from 16 x 16 to 8 x 8 and back, joined with what it was before.
UNET = 2 * B * (
    8 * 1 * 9 * 16**2 + 16 * 8 * 9 * 8**2 + 16 * 8 * 2**2 * 8**2 + 1 * 16 * 9 * 16**2
)  # fmt: skip


@case("U-Net", UNET)
def unet() -> Program:
    enter, down = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 16, 3, stride=2, padding=1)
    up, leave = nn.ConvTranspose2d(16, 8, 2, stride=2), nn.Conv2d(16, 1, 3, padding=1)

    def run(x: torch.Tensor) -> torch.Tensor:
        first = enter(x)
        return leave(torch.cat([first, up(down(first).relu())], 1))

    return Function(run, enter, down, up, leave), (rand(B, 1, 16, 16),)
