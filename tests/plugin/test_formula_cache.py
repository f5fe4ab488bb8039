"""``formula = "auto"`` for a call with a cache, under each name that transformers has for the argument."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest

# Runs in this process drop the modules that they import; parts of torch do not survive being imported twice.
from transformers import GPT2LMHeadModel, LlamaForCausalLM, T5ForConditionalGeneration  # noqa: F401

Project = Callable[..., pytest.Pytester]
Run = Callable[..., pytest.RunResult]
# The names that the installed release takes: 5.24 takes its former one, too, and warns.
NAMES = sorted({"past_key_values", *(inspect.signature(LlamaForCausalLM.forward).parameters.keys() & {"cache"})})

MODELS = """
from transformers import DynamicCache, EncoderDecoderCache, GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM
from transformers import T5Config, T5ForConditionalGeneration

TOKENS = torch.ones(1, 8, dtype=torch.long)

def llama(layers=2):
    return LlamaForCausalLM(LlamaConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=layers, num_attention_heads=4, num_key_value_heads=2,
        vocab_size=50,
    )).eval()

def gpt2():
    return GPT2LMHeadModel(GPT2Config(n_embd=32, n_layer=2, n_head=4, vocab_size=50)).eval()

def t5():
    return T5ForConditionalGeneration(T5Config(
        d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4, vocab_size=50, decoder_start_token_id=0,
    )).eval()

def filled(model):
    cache = DynamicCache(config=model.config)
    with torch.no_grad():
        model(TOKENS, **{NAMES[0]: cache})
    return cache
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("build", ["llama", "gpt2"])
def test_one_token_against_a_cache(
    project: Project, run: Run, report: Callable[[], dict[str, Any]], name: str, build: str
) -> None:
    # Llama: q, o: 32*32 each, k, v: 32*16 each, mlp: 3*32*64, so 9,216 multiply-adds a layer; with 2 layers and 32*50
    # logits 2*(2*9,216 + 1,600) = 40,064. Scores and values of 9 keys: 2 layers * 4*9*32 = 2,304. In all 42,368.
    # GPT-2: 12*32*32 = 12,288 a layer: 2*(2*12,288 + 1,600) + 2,304 = 54,656.
    flops = {"llama": 42_368, "gpt2": 54_656}[build]
    project(
        f"NAMES = {NAMES}\n{MODELS}"
        + f"""
@pytest.mark.filterwarnings("ignore:.past_key_values. is deprecated:FutureWarning")
def test_decode(flopguard):
    model = {build}()
    cache = filled(model)
    with torch.no_grad():
        flopguard.check(model, TOKENS[:, :1], formula="auto", **{{{name!r}: cache}})
"""
    )
    run("--flop-budget", "--flop-report=report.json").assert_outcomes(passed=1)
    (found,) = [each for record in report()["records"] for each in record["findings"] if each["source"] == "formula"]
    assert (found["low"], found["high"], found["status"]) == (flops, flops, "met")


@pytest.mark.slow
def test_generation_of_an_encoder_and_decoder(project: Project, run: Run) -> None:
    project(
        MODELS
        + """
@pytest.mark.flop_budget(formula="auto")
def test_generate():
    t5().generate(TOKENS, max_new_tokens=3, do_sample=False)
"""
    )
    run("--flop-budget").assert_outcomes(passed=1)


@pytest.mark.slow
def test_a_cache_that_cannot_be_read_is_refused_by_name(project: Project, run: Run) -> None:
    project(
        f"NAMES = {NAMES}\n{MODELS}"
        + """
class Adapted(LlamaForCausalLM):
    def forward(self, input_ids, memory=None, layer_past=None, **kwargs):
        return super().forward(input_ids, **kwargs)

def adapted():
    model = llama()
    model.__class__ = Adapted
    return model

@pytest.mark.flop_budget(formula="auto")
def test_pairs_of_tensors():
    adapted()(TOKENS, layer_past=((torch.zeros(1, 2, 8, 8), torch.zeros(1, 2, 8, 8)),))

@pytest.mark.flop_budget(formula="auto")
def test_a_class_without_layers():
    class OwnCache:
        def get_seq_length(self):
            return 8
    adapted()(TOKENS, memory=OwnCache())

@pytest.mark.flop_budget(formula="auto")
def test_a_state_without_keys():
    from transformers import MambaConfig
    small = MambaConfig(vocab_size=50, hidden_size=32, state_size=5, num_hidden_layers=2)
    adapted()(TOKENS, memory=DynamicCache(config=small))

@pytest.mark.flop_budget(formula="auto")
def test_two_caches():
    model = adapted()
    model(TOKENS, memory=filled(model), **{NAMES[0]: filled(model)})

@pytest.mark.flop_budget(formula="auto")
def test_a_cache_of_another_model():
    llama()(TOKENS, **{NAMES[0]: DynamicCache(config=llama(3).config)})
"""
    )
    result = run("--flop-budget")
    result.assert_outcomes(failed=5)
    lines = [
        "its argument layer_past (tuple) cannot be read: it has no get_seq_length",
        "its argument memory (OwnCache) cannot be read: it has no list of layers",
        "its argument memory (DynamicCache) cannot be read: its layer 0 is a LinearAttentionLayer, which holds no keys",
        f"memory and {NAMES[0]} are two caches, and a closed form has one",
        "its cache has 3 layers, and the model has 2",
    ]
    result.stdout.fnmatch_lines_random([f"*the config of 'llama': *: {line} ?bad-config?" for line in lines])


def test_what_is_named_like_a_cache_and_holds_none(project: Project, run: Run) -> None:
    project(
        f"NAMES = {NAMES}\n{MODELS}"
        + """
@pytest.mark.flop_budget(formula="auto")
def test_flags_and_positions():
    llama()(TOKENS, use_cache=False, cache_position=torch.arange(8), **{NAMES[0]: None})
"""
    )
    run("--flop-budget").assert_outcomes(passed=1)
