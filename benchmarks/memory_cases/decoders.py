"""GPT-2, Llama, Mixtral and Mamba of the transformers library, from their configs, with random weights."""

# A case says what it is by its name.
# ruff: noqa: D103

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.optim import SGD, AdamW

from memory_cases.case import Mark, Step, Zoo, inference, tokens, training

ZOO = Zoo(library="transformers")
BF16 = torch.bfloat16

# Of TinyLlama: 1.1 billion parameters, 32 heads that share 4 of keys and values.
LLAMA_1B = {
    "hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 22, "num_attention_heads": 32,
    "num_key_value_heads": 4, "vocab_size": 32000, "max_position_embeddings": 4096,
}  # fmt: skip
LLAMA_7B = {
    "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32,
    "num_key_value_heads": 32, "vocab_size": 32000, "max_position_embeddings": 4096,
}  # fmt: skip
LLAMA_SMALL = LLAMA_1B | {"hidden_size": 768, "intermediate_size": 2048, "num_hidden_layers": 8}
LLAMA_SMALL |= {"num_attention_heads": 12}
MIXTRAL_SMALL = {
    "hidden_size": 1024, "intermediate_size": 2816, "num_hidden_layers": 4, "num_attention_heads": 16,
    "num_key_value_heads": 4, "vocab_size": 32000, "num_local_experts": 8, "num_experts_per_tok": 2,
}  # fmt: skip


def made(device: str, config: Any, *, dtype: torch.dtype | None = None, attention: str = "sdpa") -> Any:
    """Make a causal language model on the device."""
    import transformers

    config._attn_implementation = attention
    with torch.device(device):
        return transformers.AutoModelForCausalLM.from_config(config, dtype=dtype or torch.float32)


def gpt2(device: str, *, attention: str = "sdpa", dtype: torch.dtype | None = None, **sizes: Any) -> Any:
    """GPT-2: the 124 million of the paper unless other sizes are given."""
    import transformers

    return made(device, transformers.GPT2Config(**sizes), dtype=dtype, attention=attention)


def llama(device: str, sizes: dict[str, int], *, dtype: torch.dtype | None = None) -> Any:
    """Llama of these sizes."""
    import transformers

    return made(device, transformers.LlamaConfig(**sizes), dtype=dtype)


def language_loss(model: Any, device: str, batch: int, length: int) -> Callable[[], torch.Tensor]:
    """The loss of the next token, on new tokens each time."""

    def loss() -> torch.Tensor:
        ids = tokens(device, batch, length, model.config.vocab_size)
        return model(input_ids=ids, labels=ids, use_cache=False).loss

    return loss


def logits(model: Any, device: str, batch: int, length: int) -> Callable[[], object]:
    """The logits of a batch without a cache, in evaluation."""
    model.eval()
    return lambda: model(input_ids=tokens(device, batch, length, model.config.vocab_size), use_cache=False)


def decoding(model: Any, device: str, batch: int, prompt: int, new: int) -> Step:
    """A prompt, then one token after the other with a growing cache, greedily."""
    model.eval()

    def step(mark: Mark) -> None:
        with torch.no_grad():
            ids = tokens(device, batch, prompt, model.config.vocab_size)
            out = model(input_ids=ids, use_cache=True)
            mark("prompt")
            for _ in range(new):
                ids = out.logits[:, -1:].argmax(-1)
                out = model(input_ids=ids, past_key_values=out.past_key_values, use_cache=True)
            mark("decode")
            del out, ids

    return step


@ZOO.case("gpt2")
def gpt2_train_adamw_foreach(device: str) -> Step:
    model = gpt2(device)
    return training(language_loss(model, device, 8, 1024), AdamW(model.parameters(), foreach=True))


@ZOO.case("gpt2")
def gpt2_train_adamw_fused(device: str) -> Step:
    model = gpt2(device)
    return training(language_loss(model, device, 8, 1024), AdamW(model.parameters(), fused=True))


@ZOO.case("gpt2")
def gpt2_train_adamw_loop(device: str) -> Step:
    model = gpt2(device)
    return training(language_loss(model, device, 2, 256), AdamW(model.parameters(), foreach=False))


@ZOO.case("gpt2")
def gpt2_train_sgd_kept_gradients(device: str) -> Step:
    model = gpt2(device)
    optimizer = SGD(model.parameters(), lr=0.01)
    return training(language_loss(model, device, 4, 512), optimizer, set_to_none=False)


@ZOO.case("gpt2")
def gpt2_train_autocast_bf16(device: str) -> Step:
    model = gpt2(device)
    loss = language_loss(model, device, 8, 1024)
    return training(loss, AdamW(model.parameters(), fused=True), autocast=BF16, clip=model.parameters())


@ZOO.case("gpt2")
def gpt2_train_autocast_bf16_no_dropout(device: str) -> Step:
    model = gpt2(device, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)
    return training(language_loss(model, device, 8, 1024), AdamW(model.parameters(), fused=True), autocast=BF16)


@ZOO.case("gpt2")
def gpt2_train_fp16_scaled(device: str) -> Step:
    model = gpt2(device)
    # The fused optimizer takes the scaler's verdict on the device, so nobody reads it.
    optimizer, scaler = AdamW(model.parameters(), fused=True), torch.amp.GradScaler("cuda")
    return training(language_loss(model, device, 4, 1024), optimizer, autocast=torch.float16, scaler=scaler)


@ZOO.case("gpt2")
def gpt2_train_checkpointed(device: str) -> Step:
    model = gpt2(device)
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    loss = language_loss(model.train(), device, 8, 1024)
    return training(loss, AdamW(model.parameters(), fused=True))


@ZOO.case("gpt2")
def gpt2_train_eager_attention(device: str) -> Step:
    model = gpt2(device, attention="eager")
    return training(language_loss(model, device, 4, 1024), AdamW(model.parameters(), fused=True))


@ZOO.case("gpt2")
def gpt2_train_accumulated(device: str) -> Step:
    model = gpt2(device)
    return training(language_loss(model, device, 2, 512), AdamW(model.parameters()), batches=4)


@ZOO.case("gpt2")
def gpt2_train_odd_sizes(device: str) -> Step:
    model = gpt2(device, n_layer=5, n_embd=279, n_head=9, vocab_size=12345)
    return training(language_loss(model, device, 3, 333), AdamW(model.parameters()))


@ZOO.case("gpt2")
def gpt2_train_tiny(device: str) -> Step:
    model = gpt2(device, n_layer=2, n_embd=128, n_head=4)
    return training(language_loss(model, device, 2, 64), AdamW(model.parameters(), foreach=True))


@ZOO.case("gpt2")
def gpt2_forward_with_graph(device: str) -> Step:
    loss = language_loss(gpt2(device), device, 4, 1024)

    def step(mark: Mark) -> None:
        value = loss()
        mark("forward")
        del value

    return step


@ZOO.case("gpt2")
def gpt2_infer_no_grad(device: str) -> Step:
    return inference(logits(gpt2(device), device, 8, 1024))


@ZOO.case("gpt2")
def gpt2_infer_inference_mode_bf16(device: str) -> Step:
    return inference(logits(gpt2(device, dtype=BF16), device, 8, 1000), mode=True)


@ZOO.case("gpt2")
def gpt2_decode(device: str) -> Step:
    return decoding(gpt2(device), device, 4, 200, 16)


@ZOO.case("llama")
def llama_1b_train_bf16(device: str) -> Step:
    model = llama(device, LLAMA_1B, dtype=BF16)
    optimizer = AdamW(model.parameters(), fused=True)
    return training(language_loss(model, device, 4, 2048), optimizer, clip=model.parameters())


@ZOO.case("llama")
def llama_1b_train_bf16_checkpointed(device: str) -> Step:
    model = llama(device, LLAMA_1B, dtype=BF16)
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    loss = language_loss(model.train(), device, 4, 2048)
    return training(loss, AdamW(model.parameters(), foreach=True), clip=model.parameters())


@ZOO.case("llama")
def llama_small_train_fp32(device: str) -> Step:
    model = llama(device, LLAMA_SMALL)
    return training(language_loss(model, device, 4, 1024), AdamW(model.parameters()))


@ZOO.case("llama")
def llama_small_train_autocast_accumulated(device: str) -> Step:
    model = llama(device, LLAMA_SMALL)
    loss = language_loss(model, device, 3, 1023)
    return training(loss, AdamW(model.parameters(), fused=True), autocast=BF16, batches=2)


@ZOO.case("llama")
def llama_1b_infer_no_grad(device: str) -> Step:
    return inference(logits(llama(device, LLAMA_1B, dtype=BF16), device, 4, 2048))


@ZOO.case("llama")
def llama_1b_decode(device: str) -> Step:
    return decoding(llama(device, LLAMA_1B, dtype=BF16), device, 8, 512, 8)


@ZOO.case("llama", steps=2)
def llama_7b_infer_inference_mode(device: str) -> Step:
    return inference(logits(llama(device, LLAMA_7B, dtype=BF16), device, 1, 2048), mode=True)


@ZOO.case("llama", steps=2)
def llama_7b_train_bf16(device: str) -> Step:
    model = llama(device, LLAMA_7B, dtype=BF16)
    return training(language_loss(model, device, 1, 1024), SGD(model.parameters(), lr=0.01))


def mixtral(device: str) -> Any:
    """A small mixture of experts, all of whose experts run as one grouped product: no expert asks who it got."""
    import transformers

    config = transformers.MixtralConfig(**MIXTRAL_SMALL)
    config._experts_implementation = "grouped_mm"
    return made(device, config, dtype=BF16)


@ZOO.case("mixtral")
def mixtral_train_bf16(device: str) -> Step:
    model = mixtral(device)
    return training(language_loss(model, device, 2, 1024), AdamW(model.parameters(), fused=True))


@ZOO.case("mixtral")
def mixtral_infer_no_grad(device: str) -> Step:
    return inference(logits(mixtral(device), device, 4, 1024))


def mamba(device: str) -> Any:
    """A small Mamba; without extra kernels the library scans it step by step."""
    import transformers

    config = transformers.MambaConfig(hidden_size=512, num_hidden_layers=4, vocab_size=16000)
    # It has no attention, and refuses to be asked for a fused one.
    return made(device, config, attention="eager")


@ZOO.case("mamba")
def mamba_train_fp32(device: str) -> Step:
    model: nn.Module = mamba(device)
    return training(language_loss(model, device, 4, 128), AdamW(model.parameters()))


@ZOO.case("mamba")
def mamba_infer_no_grad(device: str) -> Step:
    return inference(logits(mamba(device), device, 4, 256))
