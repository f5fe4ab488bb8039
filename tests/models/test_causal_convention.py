"""Real models under ``attention = "causal"``: the dense closed form less the pairs that no causal kernel computes."""

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
    MistralConfig,
    MistralForCausalLM,
)

from pytest_flopguard.core.measurement import FlopTally
from pytest_flopguard.formulas.registry import Registry, default_registry

Placed = Callable[[str, Callable[[], nn.Module]], AbstractContextManager[nn.Module]]
Count = Callable[..., tuple[FlopTally, int]]


@pytest.fixture
def costs() -> Registry:
    """Let ``count`` follow masks."""
    return default_registry("causal")


def with_attention(config: Any, attention: str) -> Any:
    config._attn_implementation = attention
    return config


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_gpt2_at_full_size(placed: Placed, count: Count, attention: str) -> None:
    config = GPT2Config(resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, use_cache=False)
    with placed("fake", lambda: GPT2LMHeadModel(with_attention(config, attention))) as model:
        tally, _ = count(model, torch.zeros(1, 1024, dtype=torch.long))
    # Dense 291,648,307,200. Each of 12 layers hides 1024 * 1023 / 2 = 523,776 of its pairs, 4 * 768 FLOPs each:
    # 12 * 523,776 * 3072 = 19,308,478,464.
    assert tally.unknown_ops == ()
    assert tally.forward == 291_648_307_200 - 19_308_478_464
    assert tally.total == 3 * (291_648_307_200 - 19_308_478_464)
    assert tally.dense_total == 874_944_921_600


@pytest.mark.slow
def test_llama_3_8b_at_full_size(placed: Placed, count: Count) -> None:
    config = LlamaConfig(
        vocab_size=128256,
        hidden_size=4096,
        intermediate_size=14336,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_key_value_heads=8,
        use_cache=False,
    )
    with placed("fake", lambda: LlamaForCausalLM(with_attention(config, "sdpa"))) as model:
        tally, _ = count(model, torch.zeros(1, 8192, dtype=torch.long), backward=False)
    # Dense 158,140,695,838,720, of which attention is 4*s^2*h*L = 35,184,372,088,832. Causal attention is
    # 2*s*(s+1)*h*L = 17,594,333,528,064 (the half of it, and s*h*2*L more for the diagonal).
    assert (tally.dense_total, tally.total) == (
        158_140_695_838_720,
        158_140_695_838_720 - 35_184_372_088_832 + 17_594_333_528_064,
    )


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("place", ["cpu", "fake"])
def test_a_sliding_window(placed: Placed, count: Count, place: str, attention: str) -> None:
    config = MistralConfig(
        vocab_size=97,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        sliding_window=16,
        use_cache=False,
    )
    with placed(place, lambda: MistralForCausalLM(with_attention(config, attention))) as model:
        tally, _ = count(model, torch.zeros(1, 64, dtype=torch.long))
    # 64 queries meet at most 16 keys: 64*16 - 16*15/2 = 904 of 4096 pairs. 2 layers, 4 * 64 FLOPs a pair, and
    # backward twice as much.
    assert tally.unknown_ops == ()
    assert tally.dense_total is not None
    assert tally.total == tally.dense_total - (4096 - 904) * 2 * 4 * 64 * 3


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_padding_is_a_mask_too(placed: Placed, count: Count, attention: str) -> None:
    config = BertConfig(vocab_size=97, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4)
    padded = torch.tensor([[1] * 20 + [0] * 12, [1] * 32])
    with placed("cpu", lambda: BertModel(with_attention(config, attention)).eval()) as model:
        tally, _ = count(model, torch.zeros(2, 32, dtype=torch.long), attention_mask=padded, backward=False)
    # 32 queries of the first sequence do not meet 12 keys: 384 pairs, 4 * 64 FLOPs each, 2 layers.
    assert tally.dense_total is not None
    assert tally.total == tally.dense_total - 384 * 4 * 64 * 2
