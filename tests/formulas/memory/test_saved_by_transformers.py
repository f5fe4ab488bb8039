"""Whose layers the formulas of saved tensors are exact for, and whose they are not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    GemmaConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    Phi3Config,
    PretrainedConfig,
    Qwen2Config,
    Starcoder2Config,
)

from pytest_flopguard.formulas.architectures.decoder_sizes import DecoderSizes
from pytest_flopguard.formulas.memory.decoder import decoder_activations

DTYPES = [("bfloat16", torch.bfloat16), ("float32", torch.float32)]
EACH: dict[str, Any] = {"vocab_size": 70, "bos_token_id": 1, "eos_token_id": 2, "attn_implementation": "sdpa"}
COMMON: dict[str, Any] = {**EACH, "hidden_size": 32, "intermediate_size": 80, "num_attention_heads": 4}
GROUPED: dict[str, Any] = {**COMMON, "pad_token_id": 0, "num_key_value_heads": 2}
GPT_2: dict[str, Any] = {
    **EACH, "n_embd": 32, "n_head": 4, "n_inner": 80, "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0
}  # fmt: skip
NO_DROPOUT = {"residual_dropout": 0.0, "embedding_dropout": 0.0, "attention_dropout": 0.0}


def one_layer(make: Callable[[int], PretrainedConfig], dtype: torch.dtype, saved_bytes: Callable[..., int]) -> int:
    """Bytes that a second layer adds to what a training forward of 2 x 24 tokens keeps."""
    found = []
    for layers in (1, 2):
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(make(layers)).to(dtype).train()
        ids = torch.randint(3, 60, (2, 24))

        def run(model: Any = model, ids: torch.Tensor = ids) -> None:
            model(ids, labels=ids, use_cache=False)

        found.append(saved_bytes(run, [*model.parameters(), *model.buffers()]))
    return found[1] - found[0]


def formula(dtype: str, *, kv_heads: int, gated: bool, unfused_gelu: bool = False) -> int:
    sizes = DecoderSizes(width=32, layers=1, heads=4, kv_heads=kv_heads, ff=80, vocab=70, gated=gated)
    return decoder_activations(sizes, batch=2, sequence=24, dtype=dtype, unfused_gelu=unfused_gelu).total


@pytest.mark.parametrize(("name", "dtype"), DTYPES)
@pytest.mark.parametrize(
    ("make", "options"),
    [
        pytest.param(
            lambda layers: LlamaConfig(**GROUPED, num_hidden_layers=layers), {"kv_heads": 2, "gated": True}, id="Llama"
        ),
        pytest.param(
            lambda layers: MistralConfig(**GROUPED, num_hidden_layers=layers, sliding_window=None),
            {"kv_heads": 2, "gated": True},
            id="Mistral",
        ),
        pytest.param(
            lambda layers: Qwen2Config(**GROUPED, num_hidden_layers=layers), {"kv_heads": 2, "gated": True}, id="Qwen2"
        ),
        pytest.param(
            lambda layers: Starcoder2Config(**GROUPED, num_hidden_layers=layers, sliding_window=None, **NO_DROPOUT),
            {"kv_heads": 2, "gated": False},
            id="StarCoder2",
        ),
        pytest.param(
            lambda layers: GPT2Config(**GPT_2, n_layer=layers, activation_function="gelu"),
            {"kv_heads": 4, "gated": False},
            id="GPT-2, gelu",
        ),
        pytest.param(
            lambda layers: GPT2Config(**GPT_2, n_layer=layers, activation_function="gelu_new"),
            {"kv_heads": 4, "gated": False, "unfused_gelu": True},
            id="GPT-2, gelu_new",
        ),
    ],
)
def test_exact(
    make: Callable[[int], PretrainedConfig],
    options: dict[str, Any],
    name: str,
    dtype: torch.dtype,
    saved_bytes: Callable[..., int],
) -> None:
    assert one_layer(make, dtype, saved_bytes) == formula(name, **options)


@pytest.mark.parametrize(("name", "dtype"), DTYPES)
@pytest.mark.parametrize(
    ("make", "options"),
    [
        pytest.param(
            # Its norm multiplies by 1 + w in float32.
            lambda layers: GemmaConfig(**GROUPED, num_hidden_layers=layers, head_dim=8),
            {"kv_heads": 2, "gated": True},
            id="Gemma",
        ),
        pytest.param(
            # Gate and up are two views of one product.
            lambda layers: Phi3Config(**GROUPED, num_hidden_layers=layers, resid_pdrop=0.0, embd_pdrop=0.0),
            {"kv_heads": 2, "gated": True},
            id="Phi-3",
        ),
        pytest.param(
            # Queries and keys are put together from a rotated and a plain part.
            lambda layers: GPTNeoXConfig(**COMMON, num_hidden_layers=layers),
            {"kv_heads": 4, "gated": False},
            id="GPT-NeoX",
        ),
    ],
)
def test_these_keep_more(
    make: Callable[[int], PretrainedConfig],
    options: dict[str, Any],
    name: str,
    dtype: torch.dtype,
    saved_bytes: Callable[..., int],
) -> None:
    """The limits that the docstring tells; where this fails, the model may have joined those above."""
    assert one_layer(make, dtype, saved_bytes) > formula(name, **options)
