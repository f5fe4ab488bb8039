"""``formula="auto"`` with fewer decoder layers, with encoder outputs that are given, and with a ``head_dim``."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import transformers.models.starcoder2.modeling_starcoder2
import transformers.models.t5.modeling_t5
import transformers.models.whisper.modeling_whisper  # noqa: F401  not imported anew by each run in this process

Project = Callable[..., pytest.Pytester]
Run = Callable[..., pytest.RunResult]

MODELS = """
from transformers import Starcoder2Config, Starcoder2ForCausalLM, T5Config, T5ForConditionalGeneration
from transformers import WhisperConfig, WhisperForConditionalGeneration

IDS = dict(vocab_size=61, pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=0)

def t5(decoder_layers):
    config = T5Config(d_model=24, d_kv=6, d_ff=28, num_layers=3, num_decoder_layers=decoder_layers, num_heads=4, **IDS)
    return T5ForConditionalGeneration(config).eval()

def whisper(decoder_layers):
    return WhisperForConditionalGeneration(WhisperConfig(
        d_model=24, encoder_layers=3, decoder_layers=decoder_layers, encoder_attention_heads=4,
        decoder_attention_heads=4, encoder_ffn_dim=28, decoder_ffn_dim=28, num_mel_bins=10, max_source_positions=10,
        max_target_positions=20, suppress_tokens=None, begin_suppress_tokens=None, **IDS,
    )).eval()
"""


def formula_holds(project: Project, run: Run, body: str, tests: int) -> None:
    project(MODELS + body)
    result = run("--flop-budget")
    result.assert_outcomes(passed=tests)
    result.stdout.fnmatch_lines([f"{tests} measured: {tests} ok"])


@pytest.mark.slow
@pytest.mark.parametrize("layers", [1, 2, 3])
def test_generation_with_another_number_of_decoder_layers(project: Project, run: Run, layers: int) -> None:
    formula_holds(
        project,
        run,
        f"""
@pytest.mark.flop_budget(formula="auto")
def test_t5():
    t5({layers}).generate(torch.full((2, 9), 5), max_new_tokens=4, min_new_tokens=4, do_sample=False)

@pytest.mark.flop_budget(formula="auto")
def test_whisper():
    whisper({layers}).generate(torch.randn(2, 10, 20), max_new_tokens=4, do_sample=False)
""",
        2,
    )


@pytest.mark.slow
@pytest.mark.parametrize("gradient", [False, True])
@pytest.mark.parametrize("given", ["(hidden,)", "BaseModelOutput(last_hidden_state=hidden)"])
def test_a_step_on_the_output_of_an_encoder(project: Project, run: Run, gradient: bool, given: str) -> None:
    formula_holds(
        project,
        run,
        f"""
from transformers.modeling_outputs import BaseModelOutput

@pytest.mark.flop_budget(formula="auto")
@pytest.mark.parametrize("model, positions", [(t5(2), 7), (whisper(2), 10)])
def test_step(model, positions):
    hidden = torch.randn(2, positions, 24, requires_grad={gradient})
    model(encoder_outputs={given}, labels=torch.full((2, 5), 5)).loss.backward()
""",
        2,
    )


@pytest.mark.slow
def test_a_head_dim_that_is_not_the_width_over_the_heads(project: Project, run: Run) -> None:
    formula_holds(
        project,
        run,
        """
@pytest.mark.flop_budget(formula="auto")
def test_step():
    model = Starcoder2ForCausalLM(Starcoder2Config(
        hidden_size=24, intermediate_size=28, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        head_dim=10, vocab_size=61))
    ids = torch.ones(1, 16, dtype=torch.long)
    model(ids, labels=ids).loss.backward()
""",
        1,
    )
