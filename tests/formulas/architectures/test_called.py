"""From the facts of a call to its closed form, and to what is expected of a region."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pytest_flopguard.core.errors import ArchitectureError, ConfigError, SizeError
from pytest_flopguard.core.expectation import Expectation, Origin
from pytest_flopguard.core.measurement import FlopTally, OpCount
from pytest_flopguard.core.model_call import ModelCall
from pytest_flopguard.core.tensors import TensorSpec
from pytest_flopguard.formulas.architectures.called import closed_form_of, written_at
from pytest_flopguard.formulas.architectures.families import from_config
from pytest_flopguard.formulas.architectures.models import closed_form
from pytest_flopguard.formulas.architectures.presets import preset
from pytest_flopguard.formulas.expected import Stated, derived, stated

LLAMA = {
    "model_type": "llama", "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
    "num_attention_heads": 8, "num_key_value_heads": 2, "vocab_size": 100,
}  # fmt: skip
AUTO = Expectation(quantity="flops", origin=Origin(path="t.py", line=3), source="formula", derive="auto")


def tokens(*shape: int) -> TensorSpec:
    return TensorSpec(shape=shape, dtype="int64", device="cpu")


def call(**facts: Any) -> ModelCall:
    plain = {
        "model": "LlamaForCausalLM", "path": "LlamaForCausalLM", "config": LLAMA,
        "inputs": {"input_ids": tokens(2, 16)}, "grad": True,
    }  # fmt: skip
    return ModelCall(**{**plain, **facts})


def ran(*rows: tuple[str, str, int]) -> FlopTally:
    counts = tuple(
        OpCount(op="aten.mm", module=module, phase=phase, kind="counted", calls=1, flops=flops)  # type: ignore[arg-type]
        for module, phase, flops in rows
    )
    return FlopTally(counts=counts, engine="dispatch")


def test_terms_say_where_they_are_done():
    form = closed_form_of(call(path="Wrapper.inner"))
    assert form.forward == closed_form(from_config(LLAMA), batch=2, seq=16).forward
    assert form.name == "LlamaForCausalLM"
    places = {each.name: each.modules for each in form}
    assert places["mlp"] == r"^Wrapper\.inner\b.*\.(mlp\.(gate|up|down)_proj)(\..*)?$"
    assert all(places.values())


def test_where_a_closed_form_is_written():
    path, line = written_at(call())
    assert Path(path).name == "transformer.py"
    assert Path(path).read_text(encoding="utf-8").splitlines()[line - 1].startswith("def decoder(")


@pytest.mark.parametrize(
    ("model", "left_out"),
    [("LlamaModel", 2 * 32 * 64 * 100), ("LlamaForSequenceClassification", 2 * 32 * 64 * (100 - 3)),
     ("LlamaForQuestionAnswering", 2 * 32 * 64 * (100 - 2))],
)  # fmt: skip
def test_heads(model, left_out):
    config = {**LLAMA, "id2label": {0: "a", 1: "b", 2: "c"}}
    form = closed_form_of(call(model=model, config=config))
    assert closed_form_of(call()).forward - form.forward == left_out


@pytest.mark.parametrize(
    ("facts", "error", "told"),
    [
        ({"model": "LlamaRotaryEmbedding"}, ArchitectureError, "in the class LlamaRotaryEmbedding"),
        ({"model": "LlamaPreTrainedModel"}, ArchitectureError, "in the class LlamaPreTrainedModel"),
        ({"config": {"model_type": "lama"}}, ArchitectureError, "did you mean 'llama'?"),
        ({"inputs": {}}, ConfigError, "it was called without input_ids or inputs_embeds"),
        ({"inputs": {"input_ids": tokens(3)}}, ConfigError, "input_ids (3,): expected a batch of sequences"),
        ({"model": "BertForNextSentencePrediction", "config": preset("bert-base")}, ArchitectureError, "in the class"),
        ({"model": "BertLMHeadModel", "config": preset("bert-base")}, ConfigError, "has no closed form"),
        ({"model": "ViTModel", "config": preset("vit-b-16"), "inputs": {"pixel_values": tokens(1, 3, 4, 4)}},
         ConfigError, "an image (3, 4, 4): expected (3, 224, 224)"),
        ({"model": "T5Stack", "config": {**preset("t5-small"), "is_decoder": True}}, ConfigError, "by itself"),
        ({"model": "WhisperForConditionalGeneration", "config": preset("whisper-tiny"),
          "inputs": {"input_features": tokens(1, 80, 99)}}, SizeError, "frames = 99"),
    ],
)  # fmt: skip
def test_calls_without_a_closed_form(facts, error, told):
    with pytest.raises(error) as raised:
        closed_form_of(call(**facts))
    assert told in str(raised.value)


def test_a_length_that_cannot_be_read():
    unread = call(past=None, keys=(20, 20), kernel="eager")
    assert closed_form_of(unread).forward == closed_form_of(call(past=0, keys=(20, 20), kernel="eager")).forward
    with pytest.raises(ConfigError, match="how many tokens its cache holds cannot be read, and causal"):
        closed_form_of(unread, "causal")
    # Into an empty cache sdpa looks no further than the prompt, so there the length decides.
    with pytest.raises(ConfigError, match="how many tokens its cache holds cannot be read, and the keys"):
        closed_form_of(replace(unread, kernel="sdpa"))
    with pytest.raises(ConfigError, match="its config names no implementation of attention"):
        closed_form_of(call(keys=(20, 20)))


@pytest.mark.parametrize(
    ("facts", "problem"),
    [
        ({"keys": (7,)}, "its cache has 1 layer, and the model has 2"),
        ({"problem": "its argument cache cannot be read"}, "its argument cache cannot be read"),
    ],
)
def test_what_cannot_be_read_is_refused(facts: dict[str, Any], problem: str):
    with pytest.raises(ConfigError, match=problem):
        closed_form_of(call(**facts))


@pytest.mark.parametrize("kept", [-1, "all", (1, 2)])
def test_logits_to_keep_that_are_not_known(kept: object):
    with pytest.raises(ConfigError, match=r"logits_to_keep = .*: expected a whole number or a tensor"):
        closed_form_of(call(inputs={**call().inputs, "logits_to_keep": kept}))


def test_an_empty_static_cache_is_cut():
    def pairs(**facts: Any) -> int:
        form = closed_form_of(call(keys=(20, 20), **facts)).by_name()
        return form["attention_scores"] // (2 * 2 * 2 * 64)

    # 16 queries with the 16 of the prompt, or with all 20 of the cache.
    assert pairs(kernel="sdpa") == 16 * 16
    assert pairs(kernel="eager") == pairs(kernel="sdpa", unpadded=False) == pairs(kernel="sdpa", past=4) == 16 * 20


def test_checkpointing():
    whole = call(checkpointing="whole", checkpointed=(True, True))
    form = closed_form_of(whole)
    assert form.recompute == form.forward - form.by_name()["lm_head"]
    # Until the last tensor that backward needs: the last of three matrices of each MLP is not done again.
    needed = closed_form_of(replace(whole, checkpointing="needed"))
    assert form.recompute - needed.recompute == form.by_name()["mlp"] // 3
    # Dropout after it needs its mask, and so its input.
    dropping = replace(whole, checkpointing="needed", config={**LLAMA, "hidden_dropout": 0.1})
    assert closed_form_of(dropping).recompute == form.recompute
    half = closed_form_of(replace(whole, checkpointed=(True, False)))
    assert (half.recompute, half.forward) == (form.recompute // 2, form.forward)
    assert closed_form_of(replace(whole, grad=False)).recompute == 0


def test_only_some_of_unlike_layers_checkpointed():
    config = {**LLAMA, "model_type": "qwen2_moe", "num_experts": 4, "num_experts_per_tok": 2, "decoder_sparse_step": 2}
    config |= {"moe_intermediate_size": 8, "shared_expert_intermediate_size": 8}
    some = call(model="Qwen2MoeForCausalLM", config=config, checkpointing="whole", checkpointed=(True, False))
    with pytest.raises(ConfigError, match="1 of 2 layers are checkpointed, and not all are alike"):
        closed_form_of(some)


def test_backward_is_expected_where_it_ran():
    form = closed_form_of(call())
    (forward,) = derived(AUTO, [call()], ran(("LlamaForCausalLM.lm_head", "forward", 1)), "dense")
    (both,) = derived(AUTO, [call()], ran(("LlamaForCausalLM.lm_head", "backward", 1)), "dense")
    (nowhere,) = derived(AUTO, [call()], ran(("", "backward", 1)), "dense")
    (elsewhere,) = derived(AUTO, [call()], ran(("LlamaForCausalLM#2.lm_head", "backward", 1)), "dense")
    (never,) = derived(AUTO, [call(grad=False)], ran(("LlamaForCausalLM.lm_head", "backward", 1)), "dense")
    assert forward.high == elsewhere.high == never.high == form.forward
    assert both.high == both.low == nowhere.high == form.training_step


def test_several_calls_are_summed():
    (wanted,) = derived(AUTO, [call(), call(), call(path="Other")], ran(), "dense")
    form = closed_form_of(call())
    assert wanted.high == 3 * form.forward
    names = [part.name for part in wanted.parts]
    assert len(names) == 2 * len(form.terms)
    assert sum(part.flops for part in wanted.parts) == wanted.high


def test_an_optimizer_of_its_own_work():
    wanted = derived(AUTO, [call()], ran(("", "optimizer", 5), ("LlamaForCausalLM", "backward", 1)), "dense")
    form = closed_form_of(call())
    assert [(each.quantity, each.high) for each in wanted] == [
        ("forward_flops", form.forward),
        ("backward_flops", form.backward),
        ("recompute_flops", 0),
    ]


def test_the_origin_is_the_formula():
    (wanted,) = derived(AUTO, [call()], ran(), "dense")
    assert str(wanted.origin).startswith("pytest_flopguard/formulas/architectures/transformer.py:")
    assert wanted.origin.text == "formula = auto at t.py:3"
    assert wanted.derive == ""


def test_frozen_parameters():
    frozen = call(frozen=("model.layers.0.mlp.up_proj.weight",))
    assert derived(AUTO, [frozen], ran(), "dense")
    with pytest.raises(ConfigError, match="1 parameters want no gradient"):
        derived(AUTO, [frozen], ran(("LlamaForCausalLM", "backward", 1)), "dense")
    with pytest.raises(ConfigError, match=r"no model with a config ran.*\[no-model\]"):
        derived(AUTO, [], ran(), "dense")


def test_what_a_test_states():
    form = closed_form_of(call())
    origin = Origin(path="t.py", line=9)
    (forward,) = stated(Stated(form=form, origin=origin), ran(("A", "forward", 1)))
    (step,) = stated(Stated(form=form, origin=origin), ran(("A", "backward", 1)))
    (phase,) = stated(Stated(form=form, origin=origin, quantity="forward_flops"), ran(("A", "backward", 1)))
    assert (forward.high, step.high, phase.high) == (form.forward, form.training_step, form.forward)
    assert {each.origin for each in (forward, step, phase)} == {origin}
