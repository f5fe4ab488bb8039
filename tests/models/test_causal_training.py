"""``attention = "causal"`` where weights are not parameters: under autocast, and in checkpointed layers."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
import torch
from layer_checkpointing import checkpoint_layers
from torch import nn
from transformers import (
    DeepseekV3Config,
    DeepseekV3ForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

from pytest_flopguard.backends.dispatch import DispatchFlops
from pytest_flopguard.core.measurement import FlopTally
from pytest_flopguard.formulas.registry import default_registry

SIZES: dict[str, Any] = {
    "hidden_size": 48,
    "intermediate_size": 52,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "vocab_size": 101,
}
MODELS = {
    "llama": (LlamaForCausalLM, LlamaConfig(**SIZES)),
    "gemma2": (Gemma2ForCausalLM, Gemma2Config(**SIZES, head_dim=8, sliding_window=4)),
    "deepseek_v3": (
        DeepseekV3ForCausalLM,
        DeepseekV3Config(
            **(SIZES | {"num_key_value_heads": 6}),
            q_lora_rank=20,
            kv_lora_rank=12,
            qk_rope_head_dim=4,
            qk_nope_head_dim=8,
            v_head_dim=8,
            first_k_dense_replace=2,
        ),
    ),
    "t5": (
        T5ForConditionalGeneration,
        T5Config(
            d_model=48,
            d_kv=8,
            d_ff=52,
            num_layers=2,
            num_heads=6,
            vocab_size=101,
            dropout_rate=0.0,
            decoder_start_token_id=0,
        ),
    ),
}
HOW = ["autocast", "checkpoint", "reentrant", "autocast and checkpoint", "autocast and reentrant"]


def step(name: str, how: str) -> FlopTally:
    """Count a training step of two sequences of 16 tokens, with eager attention."""
    kind, config = MODELS[name]
    config._attn_implementation = "eager"
    torch.manual_seed(0)
    model: nn.Module = kind(config).train()
    if "checkpoint" in how or "reentrant" in how:
        checkpoint_layers(model, {"use_reentrant": "reentrant" in how})
        model.enable_input_require_grads()
    tokens = torch.randint(0, 99, (2, 16))
    engine = DispatchFlops(default_registry("causal"))
    autocast = torch.autocast("cpu", torch.bfloat16) if "autocast" in how else contextlib.nullcontext()
    with engine:
        mark = engine.begin()
        with autocast:
            loss = model(tokens, labels=tokens, use_cache=False).loss
        loss.backward()
        return engine.end(mark)


def test_llama_by_hand() -> None:
    tally = step("llama", "plain")
    # Weights: a layer 48 * 48 + 2 * 48 * 16 + 48 * 48 = 6,144 and 3 * 48 * 52 = 7,488; two layers and the head
    # 48 * 101 = 4,848: 32,112. 2 * 32 tokens * 32,112 = 2,055,168.
    # Attention: 2 layers * 2 sequences * 6 heads * 16 * 17 / 2 pairs * 4 * 8 = 104,448.
    # Some releases of transformers compute the rotary angles as a product, which is not part of this count.
    rotary = sum(each.flops for each in tally.counts if "rotary" in each.module)
    assert tally.unknown_ops == ()
    assert tally.forward - rotary == 2_055_168 + 104_448


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("name", MODELS)
def test_the_work_is_that_of_the_plain_step(name: str, how: str) -> None:
    plain, tally = step(name, "plain"), step(name, how)
    assert (plain.unknown_ops, tally.unknown_ops) == ((), ())
    assert (tally.forward, tally.backward) == (plain.forward, plain.backward)
    assert bool(tally.recompute) == (how != "autocast")
