"""Small models of every family of transformers that has a closed form, held to it exactly: no number is written here.

What ``formula = "auto"`` does with a test is done with a call: each expectation is derived from the call's own config
and shapes, and the count must equal it. Hand calculations of the closed forms stand in tests/formulas/architectures.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from layer_checkpointing import checkpoint_layers
from torch import nn
from transformers import (
    CONFIG_MAPPING,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    BertForMaskedLM,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertForTokenClassification,
    BertModel,
    T5EncoderModel,
    T5ForConditionalGeneration,
    T5Model,
    ViTForImageClassification,
    ViTModel,
    WhisperForConditionalGeneration,
)

from pytest_flopguard.backends.dispatch import DispatchFlops
from pytest_flopguard.core.expectation import Expectation, Origin
from pytest_flopguard.core.measurement import FlopTally
from pytest_flopguard.core.model_call import ModelCall
from pytest_flopguard.formulas.architectures.families import FAMILIES, from_config
from pytest_flopguard.formulas.architectures.models import parameters
from pytest_flopguard.formulas.architectures.presets import PRESETS, preset
from pytest_flopguard.formulas.expected import derived
from pytest_flopguard.formulas.registry import default_registry
from pytest_flopguard.reporters.formula_table import formula_lines

AUTO = Expectation(quantity="flops", origin=Origin(path="here"), source="formula", derive="auto")
GPT = {"n_embd": 64, "n_layer": 3, "n_head": 4, "vocab_size": 100, "n_positions": 64}
LLAMA = {
    "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 4, "num_attention_heads": 8,
    "num_key_value_heads": 2, "vocab_size": 100,
}  # fmt: skip
WIDE = {**LLAMA, "head_dim": 16}
MOE = {**LLAMA, "moe_intermediate_size": 32, "num_experts": 6, "num_experts_per_tok": 2}
DEEPSEEK = {
    "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4, "vocab_size": 100,
    "num_key_value_heads": 4, "kv_lora_rank": 24, "qk_nope_head_dim": 16, "qk_rope_head_dim": 8, "v_head_dim": 20,
    "q_lora_rank": 12, "n_routed_experts": 8, "n_shared_experts": 2, "num_experts_per_tok": 3,
    "moe_intermediate_size": 32, "first_k_dense_replace": 1, "n_group": 2, "topk_group": 1,
}  # fmt: skip
DECODERS: dict[str, dict[str, Any]] = {
    "bloom": {"hidden_size": 64, "n_layer": 3, "n_head": 4, "vocab_size": 100},
    "deepseek_v2": DEEPSEEK,
    "deepseek_v3": {**DEEPSEEK, "q_lora_rank": None},
    "falcon": {"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "vocab_size": 100},
    "gemma": WIDE,
    "gemma2": {**WIDE, "sliding_window": 8},
    "gemma3_text": {**WIDE, "sliding_window": 8, "num_hidden_layers": 7},
    "gpt2": GPT,
    "gpt_bigcode": GPT,
    "gpt_neox": {
        "hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 3, "num_attention_heads": 4,
        "vocab_size": 100,
    },
    "gpt_oss": {**WIDE, "num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 8},
    "llama": {**LLAMA, "attention_bias": True, "mlp_bias": True},
    "mistral": {**LLAMA, "sliding_window": 8},
    "mixtral": {**LLAMA, "num_local_experts": 4},
    "mpt": {"d_model": 64, "n_layers": 3, "n_heads": 4, "vocab_size": 100},
    "qwen2": {**LLAMA, "use_sliding_window": True, "sliding_window": 8, "max_window_layers": 2},
    "qwen2_moe": {**MOE, "shared_expert_intermediate_size": 40, "decoder_sparse_step": 2},
    "qwen3": WIDE,
    "qwen3_moe": {**MOE, "head_dim": 16, "mlp_only_layers": [1]},
    "starcoder2": {**LLAMA, "sliding_window": 8},
}  # fmt: skip
# Their attention is written out; there is no fused one.
EAGER = {"bloom", "gemma2", "gpt_oss", "mpt"}
TOKENS = torch.arange(40).reshape(2, 20) % 99 + 1

Hold = Callable[..., FlopTally]


@pytest.fixture
def hold() -> Hold:
    """Run something, derive the closed form of the models that it called, and hold the count to it."""

    def hold(run: Callable[[], object], attention: str = "dense") -> FlopTally:
        tally, calls = watched(run, attention)
        (wanted,) = derived(AUTO, calls, tally, attention)
        assert tally.unknown_ops == ()
        assert tally.total == wanted.high == wanted.low, "\n".join(formula_lines(wanted, tally))
        return tally

    return hold


def watched(run: Callable[[], object], attention: Any = "dense") -> tuple[FlopTally, tuple[ModelCall, ...]]:
    with DispatchFlops(default_registry(attention)) as engine:
        engine.note_models()
        mark = engine.begin()
        run()
        return engine.end(mark), engine.model_calls(mark)


def config(model_type: str, attention: str = "", **more: Any) -> Any:
    made = CONFIG_MAPPING[model_type](**{**DECODERS[model_type], "pad_token_id": 0, "eos_token_id": None, **more})
    made._attn_implementation = attention or ("eager" if model_type in EAGER else "sdpa")
    return made


def decoder(model_type: str, attention: str = "", **more: Any) -> nn.Module:
    return AutoModelForCausalLM.from_config(config(model_type, attention, **more)).eval()


def outputs_backward(out: Any) -> None:
    tensors = [each for each in out.values() if isinstance(each, torch.Tensor) and each.requires_grad]
    torch.stack([each.sum() for each in tensors]).sum().backward()


def test_every_decoder_is_here() -> None:
    assert {*DECODERS, "bert", "t5", "vit", "whisper"} == set(FAMILIES)


@pytest.mark.parametrize("name", PRESETS)
def test_what_a_named_config_leaves_out_is_filled_in_as_transformers_does(name: str) -> None:
    plain = dict(preset(name))
    assert from_config(plain) == from_config(CONFIG_MAPPING[str(plain["model_type"])](**plain).to_dict())


@pytest.mark.parametrize("model_type", DECODERS)
def test_training(hold: Hold, model_type: str) -> None:
    model = decoder(model_type)
    tally = hold(lambda: model(input_ids=TOKENS, labels=TOKENS, use_cache=False).loss.backward())
    assert tally.forward is not None
    assert (tally.backward, tally.recompute) == (2 * tally.forward, 0)
    assert sum(each.numel() for each in model.parameters()) == parameters(from_config(model.config.to_dict()))


@pytest.mark.parametrize("model_type", [each for each in DECODERS if each not in EAGER])
def test_attention_written_out(hold: Hold, model_type: str) -> None:
    model = decoder(model_type, "eager")
    hold(lambda: model(TOKENS, use_cache=False).logits.sum().backward())


@pytest.mark.parametrize("model_type", DECODERS)
def test_causal(hold: Hold, model_type: str) -> None:
    model = decoder(model_type)
    hold(lambda: model(TOKENS, use_cache=False).logits.sum().backward(), "causal")


@pytest.mark.parametrize("model_type", DECODERS)
def test_generating(hold: Hold, model_type: str) -> None:
    model: Any = decoder(model_type)
    hold(lambda: model.generate(input_ids=TOKENS, max_new_tokens=3, do_sample=False))


@pytest.mark.parametrize("attention", ["dense", "causal"])
@pytest.mark.parametrize("cache", ["dynamic", "static"])
@pytest.mark.parametrize("model_type", ["deepseek_v3", "falcon", "gemma3_text", "llama"])
def test_generating_into_a_cache(hold: Hold, model_type: str, cache: str, attention: str) -> None:
    model: Any = decoder(model_type)
    options = {"cache_implementation": cache} if cache == "static" else {}
    hold(lambda: model.generate(input_ids=TOKENS, max_new_tokens=3, do_sample=False, **options), attention)


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("model_type", DECODERS)
def test_checkpointing(hold: Hold, model_type: str, reentrant: bool) -> None:
    model: Any = decoder(model_type).train()
    checkpoint_layers(model, {"use_reentrant": reentrant})
    tally = hold(lambda: model(input_ids=TOKENS, labels=TOKENS, use_cache=False).loss.backward())
    assert tally.recompute


VARIANTS = [
    ("falcon", {"new_decoder_architecture": True, "num_kv_heads": 2}),
    ("falcon", {"parallel_attn": False, "bias": True, "multi_query": False, "alibi": True}),
    (
        "falcon",
        {"num_ln_in_parallel_attn": 1, "new_decoder_architecture": True, "num_kv_heads": 4, "ffn_hidden_size": 80},
    ),
    ("gpt_bigcode", {"multi_query": False, "n_inner": 80}),
    ("gpt_neox", {"attention_bias": False, "use_parallel_residual": False, "tie_word_embeddings": True}),
    ("gpt2", {"n_inner": 80, "tie_word_embeddings": False}),
    ("deepseek_v3", {"attention_bias": True, "first_k_dense_replace": 3}),
    ("deepseek_v2", {"first_k_dense_replace": 0, "mlp_bias": True}),
    ("llama", {"head_dim": 24, "tie_word_embeddings": True}),
    ("qwen3", {"attention_bias": True}),
    ("mixtral", {"sliding_window": 8, "output_router_logits": True}),
    ("starcoder2", {"use_bias": False, "tie_word_embeddings": False}),
]


@pytest.mark.parametrize(("model_type", "fields"), VARIANTS)
def test_variants(hold: Hold, model_type: str, fields: dict[str, Any]) -> None:
    model = decoder(model_type, **fields)
    hold(lambda: model(input_ids=TOKENS, labels=TOKENS, use_cache=False).loss.backward())
    assert sum(each.numel() for each in model.parameters()) == parameters(from_config(model.config.to_dict()))


def test_checkpointing_every_other_layer(hold: Hold) -> None:
    model: Any = decoder("llama").train()
    checkpoint_layers(model, every_n_layers=3)
    tally = hold(lambda: model(input_ids=TOKENS, labels=TOKENS, use_cache=False).loss.backward())
    # Layers 0 and 3 of 4, but for the last of three matrices of the MLP: h=64, a*d=64, kv=16, ff=96, 40 tokens of 20.
    assert tally.recompute == 2 * (2 * 40 * (64 * 96 + 64 * 64 + 2 * 64 * 96) + 4 * 2 * 20**2 * 64)


@pytest.mark.parametrize(
    "head",
    [AutoModel, AutoModelForSequenceClassification, AutoModelForTokenClassification, AutoModelForQuestionAnswering],
    ids=lambda each: each.__name__,
)
@pytest.mark.parametrize("model_type", ["gpt2", "llama", "qwen3_moe"])
def test_heads(hold: Hold, model_type: str, head: Any) -> None:
    model = head.from_config(config(model_type, num_labels=5)).eval()
    hold(lambda: outputs_backward(model(TOKENS, use_cache=False)))


def test_what_a_call_may_be_given(hold: Hold) -> None:
    model = decoder("llama")
    padded = torch.ones(2, 20, dtype=torch.long)
    padded[0, :5] = 0
    hold(lambda: model(TOKENS, attention_mask=padded, use_cache=False))
    hold(lambda: model(inputs_embeds=torch.zeros(2, 20, 64)).logits.sum().backward())
    hold(lambda: model(TOKENS, logits_to_keep=3).logits.sum().backward())
    hold(lambda: model(TOKENS, logits_to_keep=torch.tensor([1, 4])).logits.sum().backward())
    hold(lambda: model.generate(input_ids=TOKENS, max_new_tokens=3, num_beams=3, do_sample=False))  # type: ignore[operator]
    hold(
        lambda: model.generate(  # type: ignore[operator]
            input_ids=TOKENS, attention_mask=padded, max_new_tokens=3, do_sample=False, cache_implementation="static"
        )
    )


def test_who_may_call_it(hold: Hold) -> None:
    model, other = decoder("llama"), decoder("gpt2")

    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = model

        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            return self.inner(input_ids=tokens).logits  # type: ignore[no-any-return]

    class Subclass(type(model)):  # type: ignore[misc]
        pass

    def several() -> None:
        with torch.no_grad():
            teacher = other(TOKENS).logits
        (model(TOKENS).logits - teacher).pow(2).sum().backward()
        model(TOKENS[:1]).logits.sum().backward()

    hold(lambda: Wrapped()(TOKENS).sum().backward())
    hold(lambda: Subclass(model.config)(TOKENS).logits.sum().backward())
    hold(lambda: torch.compile(model)(TOKENS).logits.sum().backward())
    hold(several)


def test_a_teacher_of_the_same_class_has_no_backward(hold: Hold) -> None:
    student, teacher = decoder("llama"), decoder("llama")

    def distil() -> None:
        with torch.no_grad():
            wanted = teacher(TOKENS).logits
        (student(TOKENS).logits - wanted).pow(2).sum().backward()

    tally = hold(distil)
    assert tally.forward == tally.backward


BERT = {
    "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4, "vocab_size": 100,
    "max_position_embeddings": 64,
}  # fmt: skip


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize(
    "head",
    [BertModel, BertForMaskedLM, BertForSequenceClassification, BertForTokenClassification, BertForQuestionAnswering],
    ids=lambda each: each.__name__,
)
def test_bert(hold: Hold, head: Any, attention: str) -> None:
    made = CONFIG_MAPPING["bert"](**BERT)
    made._attn_implementation = attention
    hold(lambda: outputs_backward(head(made).eval()(TOKENS)))
    hold(lambda: outputs_backward(head(made).eval()(TOKENS)), "causal")
    model = head(made).train()
    checkpoint_layers(model)
    assert hold(lambda: outputs_backward(model(TOKENS))).recompute


def test_bert_without_a_pooler(hold: Hold) -> None:
    model = BertModel(CONFIG_MAPPING["bert"](**BERT), add_pooling_layer=False).eval()
    hold(lambda: outputs_backward(model(TOKENS)))


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_t5(hold: Hold, version: str) -> None:
    made = CONFIG_MAPPING["t5"](
        d_model=64, d_kv=20, d_ff=96, num_layers=2, num_heads=4, vocab_size=100, decoder_start_token_id=0,
        eos_token_id=None, feed_forward_proj="relu" if version == "1.0" else "gated-gelu",
        tie_word_embeddings=version == "1.0", dropout_rate=0.0,
    )  # fmt: skip
    model: Any = T5ForConditionalGeneration(made).eval()
    assert sum(each.numel() for each in model.parameters()) == parameters(from_config(made.to_dict()))
    labels = TOKENS[:, :7].contiguous()
    for attention in ("dense", "causal"):
        hold(lambda: model(input_ids=TOKENS, labels=labels).loss.backward(), attention)
        hold(lambda: model.generate(input_ids=TOKENS, max_new_tokens=4, do_sample=False), attention)
    hold(lambda: outputs_backward(T5EncoderModel(made).eval()(TOKENS)))
    hold(lambda: T5Model(made)(input_ids=TOKENS, decoder_input_ids=labels).last_hidden_state.sum().backward())
    for reentrant in (True, False):
        checkpoint_layers(model.train(), {"use_reentrant": reentrant})
        assert hold(lambda: model(input_ids=TOKENS, labels=labels, use_cache=False).loss.backward()).recompute


def test_vit(hold: Hold) -> None:
    made = CONFIG_MAPPING["vit"](
        hidden_size=64, intermediate_size=96, num_hidden_layers=3, num_attention_heads=4, image_size=32, patch_size=8,
        num_labels=7, hidden_dropout_prob=0.0,
    )  # fmt: skip
    image = torch.zeros(2, 3, 32, 32)
    for model in (ViTModel(made), ViTModel(made, add_pooling_layer=False), ViTForImageClassification(made)):
        hold(lambda model=model: outputs_backward(model.eval()(image)))  # type: ignore[misc]
        hold(lambda model=model: outputs_backward(model(pixel_values=image.clone().requires_grad_())))  # type: ignore[misc]
    assert sum(each.numel() for each in model.parameters()) == parameters(from_config(made.to_dict()))
    checkpoint_layers(model.train())
    assert hold(lambda: outputs_backward(model(image))).recompute


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_whisper(hold: Hold, attention: str) -> None:
    made = CONFIG_MAPPING["whisper"](
        d_model=64, encoder_layers=2, decoder_layers=3, encoder_attention_heads=4, decoder_attention_heads=4,
        encoder_ffn_dim=96, decoder_ffn_dim=80, vocab_size=100, num_mel_bins=8, max_source_positions=30,
        max_target_positions=40, pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=3,
        suppress_tokens=None, begin_suppress_tokens=None,
    )  # fmt: skip
    made._attn_implementation = attention
    model: Any = WhisperForConditionalGeneration(made).eval()
    assert sum(each.numel() for each in model.parameters()) == parameters(from_config(made.to_dict()))
    sound, labels = torch.zeros(2, 8, 60), TOKENS[:, :9].contiguous()
    for convention in ("dense", "causal"):
        hold(lambda: model(input_features=sound, labels=labels).loss.backward(), convention)
        hold(lambda: model.generate(sound, max_new_tokens=4, do_sample=False), convention)
    for reentrant in (True, False):
        checkpoint_layers(model.train(), {"use_reentrant": reentrant})
        assert hold(lambda: model(input_features=sound, labels=labels, use_cache=False).loss.backward()).recompute


def test_another_layer_is_seen() -> None:
    model: Any = decoder("llama")
    model.model.layers[2].mlp.up_proj = nn.Linear(64, 100, bias=False)
    model.model.layers[2].mlp.gate_proj = nn.Linear(64, 100, bias=False)
    model.model.layers[2].mlp.down_proj = nn.Linear(100, 64, bias=False)
    tally, calls = watched(lambda: model(TOKENS))
    (wanted,) = derived(AUTO, calls, tally, "dense")
    # 40 tokens, 4 more columns in 3 matrices of width 64: 2*40 * 3*64*4.
    assert (tally.total or 0) - (wanted.high or 0) == 61_440
    lines = [line for line in formula_lines(wanted, tally) if "+61,440" in line]
    assert [line.split()[0] for line in lines] == ["mlp", "sum"]
