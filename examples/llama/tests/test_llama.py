"""Llama-3-8B with a context of 8192 tokens. Fake tensors have shapes and no values, so nothing is allocated."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM

CONTEXT = 8192


@pytest.fixture(autouse=True)
def fake_tensors() -> Iterator[None]:
    with FakeTensorMode():
        yield


@pytest.fixture
def model(fake_tensors: None) -> LlamaForCausalLM:
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=128256,
            hidden_size=4096,
            intermediate_size=14336,
            num_hidden_layers=32,
            num_attention_heads=32,
            num_key_value_heads=8,
            max_position_embeddings=CONTEXT,
            attn_implementation="sdpa",
        )
    )


@pytest.fixture
def tokens(fake_tensors: None) -> torch.Tensor:
    return torch.zeros(1, CONTEXT, dtype=torch.long)


@pytest.fixture
def cache(model: LlamaForCausalLM, tokens: torch.Tensor) -> DynamicCache:
    return model(tokens[:, :-1], use_cache=True).past_key_values


@pytest.mark.flop_budget(flops="158.2 TFLOP")
def test_prefill(model: LlamaForCausalLM, tokens: torch.Tensor) -> None:
    model(tokens)


@pytest.mark.flop_budget(flops="474.5 TFLOP", backward_flops="316.3 TFLOP")
def test_train_step(model: LlamaForCausalLM, tokens: torch.Tensor) -> None:
    model(tokens, labels=tokens, use_cache=False).loss.backward()


def test_decode_one_token(model: LlamaForCausalLM, tokens: torch.Tensor, cache: DynamicCache, over: bool) -> None:
    if over:
        model(tokens)
    else:
        model(tokens[:, -1:], past_key_values=cache)
