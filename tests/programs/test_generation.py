"""Generation with a KV cache: a prompt, then one token after the other, held to a closed form."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from pytest_flopguard.core.measurement import FlopTally

Count = Callable[[Callable[[], Any]], FlopTally]
LAYERS, WIDTH, HEADS, KEY_HEADS, HIDDEN, WORDS = 2, 16, 4, 2, 32, 40
BATCH, PROMPT, NEW = 2, 5, 4


def llama() -> nn.Module:
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=WORDS,
            hidden_size=WIDTH,
            intermediate_size=HIDDEN,
            num_hidden_layers=LAYERS,
            num_attention_heads=HEADS,
            num_key_value_heads=KEY_HEADS,
            max_position_embeddings=32,
        )
    )


def gpt2() -> nn.Module:
    return GPT2LMHeadModel(
        GPT2Config(vocab_size=WORDS, n_embd=WIDTH, n_layer=LAYERS, n_head=HEADS, n_inner=HIDDEN, n_positions=32)
    )


# Multiply-adds of a token in one layer: Llama's query and output, key and value, three of its MLP; GPT-2's queries,
# keys and values, output, and two of its MLP.
LLAMA = 2 * WIDTH * WIDTH + 2 * WIDTH * (WIDTH * KEY_HEADS // HEADS) + 3 * WIDTH * HIDDEN
GPT2 = 3 * WIDTH * WIDTH + WIDTH * WIDTH + 2 * WIDTH * HIDDEN


def run(tokens: int, seen: int, weights: int) -> int:
    """FLOPs of tokens that meet ``seen`` positions each; logits of the last one only."""
    each = 2 * weights + 2 * 2 * WIDTH * seen  # scores and values: HEADS * (WIDTH / HEADS) wide
    return BATCH * (LAYERS * tokens * each + 2 * WIDTH * WORDS)


@pytest.mark.parametrize(("build", "weights"), [(llama, LLAMA), (gpt2, GPT2)])
def test_each_step_is_one_token_against_the_cache(count: Count, build: Callable[[], Any], weights: int) -> None:
    model = build().eval()
    prompt = torch.ones(BATCH, PROMPT, dtype=torch.long)

    def generate() -> None:
        out = model.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            max_new_tokens=NEW,
            min_new_tokens=NEW,
            do_sample=False,
            pad_token_id=0,
        )
        assert out.shape == (BATCH, PROMPT + NEW)

    tally = count(generate)
    # The prompt at once; then each new token but the last is run, against all before it and itself.
    expected = run(PROMPT, PROMPT, weights) + sum(run(1, PROMPT + step, weights) for step in range(1, NEW))
    assert tally.unknown_ops == ()
    assert tally.total == expected
