"""GPT-2 124M as it is trained: one sequence of 1024 tokens, random weights, no dropout."""

from __future__ import annotations

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel


@pytest.fixture
def tokens() -> torch.Tensor:
    return torch.zeros(1, 1024, dtype=torch.long)


@pytest.fixture
def model() -> GPT2LMHeadModel:
    config = GPT2Config(attn_pdrop=0.0, embd_pdrop=0.0, resid_pdrop=0.0, attn_implementation="sdpa")
    return GPT2LMHeadModel(config).train()


@pytest.mark.flop_budget(flops="291.7 GFLOP", parameters="124.5 M", peak_memory={"cpu": "750 MiB"})
def test_forward(model: GPT2LMHeadModel, tokens: torch.Tensor) -> None:
    with torch.no_grad():
        model(tokens)


def test_train_step(model: GPT2LMHeadModel, tokens: torch.Tensor, over: bool) -> None:
    if over:
        model.activation_checkpointing_enable({"use_reentrant": False})
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    logits = model(tokens, use_cache=False).logits
    torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens.flatten()).backward()
    optimizer.step()
