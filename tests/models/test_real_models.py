"""Real models, counted and held to their closed forms: the same integer on real, meta and fake tensors."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
import torch
from torch import nn
from transformers import (
    BertConfig,
    BertModel,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    ResNetConfig,
    ResNetForImageClassification,
    ViTConfig,
    ViTForImageClassification,
)

from pytest_flopguard.core.measurement import FlopTally

Placed = Callable[[str, Callable[[], nn.Module]], AbstractContextManager[nn.Module]]
Count = Callable[..., tuple[FlopTally, int]]
Traced = Callable[..., "int | None"]
CUDA = pytest.param("cuda", marks=pytest.mark.gpu)
EVERYWHERE = ["cpu", "meta", "fake", CUDA]
REAL = pytest.param("cpu", marks=pytest.mark.slow)
# One attention on real tensors, both where they cost nothing.
PLACES = [
    pytest.param("cpu", "sdpa", marks=pytest.mark.slow),
    ("meta", "sdpa"),
    ("meta", "eager"),
    ("fake", "sdpa"),
    ("fake", "eager"),
    pytest.param("cuda", "sdpa", marks=pytest.mark.gpu),
]


def with_attention(config: Any, attention: str) -> Any:
    config._attn_implementation = attention
    return config


def forward_and_total(tally: FlopTally) -> tuple[int | None, int | None]:
    assert (tally.recompute, tally.optimizer) == (0, 0)
    return tally.forward, tally.total


def open_mask(length: int) -> torch.Tensor:
    """Return a 4-D mask, which transformers takes as it is; to make one it would read values."""
    return torch.zeros(1, 1, length, length)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("place", [REAL, "meta", "fake", CUDA])
def test_gpt2(placed: Placed, count: Count, place: str, attention: str) -> None:
    config = with_attention(GPT2Config(resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, use_cache=False), attention)
    with placed(place, lambda: GPT2LMHeadModel(config)) as model:
        mask = None if place == "cpu" else open_mask(1024)
        tally, parameters = count(model, torch.zeros(1, 1024, dtype=torch.long), attention_mask=mask)
    # L=12, s=1024, h=768, V=50257: L*(24*s*h^2 + 4*s^2*h) + 2*s*h*V
    #   = 12 * (14,495,514,624 + 3,221,225,472) + 79,047,426,048 = 291,648,307,200; backward twice as much.
    assert forward_and_total(tally) == (291_648_307_200, 874_944_921_600)
    # V*h + 1024*h + L*(12*h^2 + 13*h) + 2*h.
    assert parameters == 124_439_808


def test_fvcore_agrees_on_gpt2(placed: Placed, traced: Traced) -> None:
    with placed("meta", lambda: GPT2LMHeadModel(GPT2Config())) as model:
        assert traced(model, torch.zeros(1, 1024, dtype=torch.long), attention_mask=open_mask(1024)) == 291_648_307_200
    small = GPT2LMHeadModel(GPT2Config(n_layer=2, n_embd=64, n_head=4, vocab_size=100))
    # L=2, s=32, h=64, V=100: 2 * (24*32*64^2 + 4*32^2*64) + 2*32*64*100.
    assert traced(small, torch.zeros(1, 32, dtype=torch.long)) == 2 * (3_145_728 + 262_144) + 409_600


@pytest.mark.parametrize("place", ["meta", pytest.param("fake", marks=pytest.mark.slow)])
def test_llama_3_8b(placed: Placed, count: Count, place: str) -> None:
    config = LlamaConfig(
        hidden_size=4096, intermediate_size=14336, num_hidden_layers=32, num_attention_heads=32,
        num_key_value_heads=8, vocab_size=128256, use_cache=False,
    )  # fmt: skip
    with placed(place, lambda: LlamaForCausalLM(config)) as model:
        tally, parameters = count(model, torch.zeros(1, 8192, dtype=torch.long), attention_mask=open_mask(8192))
    # L=32, s=8192, h=4096, kv=8*128=1024, ff=14336, V=128256:
    # 2*s*(L*(h*(h + 2*kv) + h^2 + 3*h*ff) + h*V) + 4*s^2*h*L = 122,956,323,749,888 + 35,184,372,088,832.
    assert forward_and_total(tally) == (158_140_695_838_720, 474_422_087_516_160)
    # 2*V*h + L*(h*(h + 2*kv) + h^2 + 3*h*ff + 2*h) + h.
    assert parameters == 8_030_261_248


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("place", EVERYWHERE)
def test_grouped_query_heads(placed: Placed, count: Count, place: str, attention: str) -> None:
    config = LlamaConfig(
        hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=8,
        num_key_value_heads=2, vocab_size=100, use_cache=False,
    )  # fmt: skip
    with placed(place, lambda: LlamaForCausalLM(with_attention(config, attention))) as model:
        tally, _ = count(model, torch.zeros(3, 16, dtype=torch.long), attention_mask=open_mask(16))
    # B=3, L=2, s=16, h=64, kv=2*8=16, ff=96, V=100:
    # linear 2*B*s*(L*(64*(64 + 32) + 64^2 + 3*64*96) + 64*100) = 96 * (2*28,672 + 6,400) = 6,119,424;
    # attention of 8 query heads 4*B*s^2*h*L = 4*3*256*64*2 = 393,216.
    assert forward_and_total(tally) == (6_512_640, 3 * 6_512_640)


@pytest.mark.parametrize(("place", "attention"), PLACES)
def test_bert(placed: Placed, count: Count, traced: Traced, place: str, attention: str) -> None:
    config = with_attention(BertConfig(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0), attention)
    with placed(place, lambda: BertModel(config)) as model:
        tokens = torch.zeros(2, 32, dtype=torch.long)
        tally, parameters = count(model, tokens, attention_mask=open_mask(32))
    # B=2, L=12, s=32, h=768: B*L*(24*s*h^2 + 4*s^2*h) + pooler on the first token 2*B*h^2
    #   = 24 * (452,984,832 + 3,145,728) + 2,359,296.
    assert forward_and_total(tally) == (10_949_492_736, 3 * 10_949_492_736)
    # (30522 + 512 + 2)*h + 2*h + L*(12*h^2 + 13*h) + h^2 + h.
    assert parameters == 109_482_240
    if place == "cpu":
        assert traced(model, tokens) == 10_949_492_736


@pytest.mark.parametrize(("place", "attention"), PLACES)
def test_vit_b_16(placed: Placed, count: Count, traced: Traced, place: str, attention: str) -> None:
    with placed(
        place, lambda: ViTForImageClassification(with_attention(ViTConfig(num_labels=1000), attention))
    ) as model:
        image = torch.zeros(1, 3, 224, 224)
        tally, parameters = count(model, image)
    # Multiply-adds, S = 14*14 + 1 = 197 positions, h=768, ff=3072:
    patches = 196 * 768 * (3 * 16 * 16)  # 115,605,504
    layer = 197 * (4 * 768**2 + 2 * 768 * 3072) + 2 * 197**2 * 768  # 1,453,954,560
    head = 768 * 1000
    assert patches + 12 * layer + head == 17_563_828_224  # published as 17.564 GMAC
    # Backward is twice that, less the gradient of the image, which nobody asks for.
    assert forward_and_total(tally) == (2 * 17_563_828_224, 6 * 17_563_828_224 - 2 * patches)
    assert parameters == 86_567_656
    if place == "cpu":
        assert traced(model, image) == 2 * 17_563_828_224


def resnet_50_products() -> int:
    """Multiply-adds of a bottleneck ResNet on 224 x 224: the 3x3 convolution of a stage's first block strides."""
    total = 64 * 3 * 7 * 7 * 112**2
    width_in, size = 64, 56
    for stage, blocks in enumerate((3, 4, 6, 3)):
        inner, width = 64 * 2**stage, 256 * 2**stage
        for block in range(blocks):
            size_in, size = size, (size // 2 if stage and not block else size)
            total += width_in * inner * size_in**2 + 9 * inner**2 * size**2 + inner * width * size**2
            if not block:
                total += width_in * width * size**2
            width_in = width
    return total + 2048 * 1000


@pytest.mark.parametrize("place", [REAL, "meta", "fake", CUDA])
def test_resnet_50(placed: Placed, count: Count, traced: Traced, place: str) -> None:
    with placed(place, lambda: ResNetForImageClassification(ResNetConfig(num_labels=1000))) as model:
        image = torch.zeros(1, 3, 224, 224)
        tally, parameters = count(model, image)
    assert resnet_50_products() == 4_089_184_256  # published as 4.089 GMAC
    first = 64 * 3 * 7 * 7 * 112**2
    assert forward_and_total(tally) == (2 * 4_089_184_256, 6 * 4_089_184_256 - 2 * first)
    assert parameters == 25_557_032
    if place == "cpu":
        assert traced(model, image) == 2 * 4_089_184_256


@pytest.mark.parametrize("mode", ["train", "eval", "no_grad"])
@pytest.mark.parametrize("place", EVERYWHERE)
def test_encoder_and_decoder(placed: Placed, count: Count, traced: Traced, place: str, mode: str) -> None:
    with placed(place, lambda: nn.Transformer(64, 4, 2, 3, 128, dropout=0.0, batch_first=True)) as model:
        source, target = torch.zeros(2, 10, 64, requires_grad=True), torch.zeros(2, 7, 64, requires_grad=True)
        with torch.set_grad_enabled(mode != "no_grad"):
            tally, _ = count(model.train(mode == "train"), source, target, backward=mode != "no_grad")
    # Multiply-adds, B=2, d=64, ff=128, S=10 source and T=7 target positions:
    encoder = 10 * 4 * 64**2 + 2 * 10 * 10 * 64 + 10 * 2 * 64 * 128
    itself = 7 * 4 * 64**2 + 2 * 7 * 7 * 64
    # Queries and output on T, keys and values on S.
    cross = 7 * 2 * 64**2 + 10 * 2 * 64**2 + 2 * 7 * 10 * 64
    forward = 2 * 2 * (2 * encoder + 3 * (itself + cross + 7 * 2 * 64 * 128))
    assert forward_and_total(tally) == (forward, forward if mode == "no_grad" else 3 * forward)
    if place == "cpu":
        with torch.set_grad_enabled(mode != "no_grad"):
            assert traced(model, source, target) == forward
