"""Training tools' formulas against the numbers that the tools themselves print or test with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from pytest_flopguard.core.errors import SizeError
from pytest_flopguard.formulas.architectures.decoder_sizes import DecoderSizes, Experts
from pytest_flopguard.formulas.architectures.transformer import decoder
from pytest_flopguard.formulas.published import litgpt, maxtext, megatron, torchtitan, verl

Models = Mapping[str, DecoderSizes]
SHORT, LONG = (512, 1024, 2048), (4096, 4096, 4096)

# verl, tests/utils/test_flops_counter.py: commit 7de1304 (causal, c = 6) at SHORT and LONG.
VERL_CAUSAL = {
    "llama-2-7b": (149226491215872, 536372695793664),
    "qwen2.5-7b": (167073690943488, 591764889010176),
    "qwen3-8b": (180997438046208, 648394032807936),
    "qwen3-30b-a3b": (78593069678592, 306570470621184),
    "mistral-small-24b": (512303699066880, 1787393589903360),
    "deepseek-v3": (848766538088448, 3145850406567936),
    "gemma-3-12b": (279084659638272, 963929979224064),
    "gpt-oss-20b": (91780464771072, 323953008574464),
}
# Commit 013146c (c = 12); DeepSeek's is 12*192 and wrong, values being 128 wide.
VERL_DENSE = {
    "llama-2-7b": (153555818250240, 575955114393600),
    "qwen2.5-7b": (170388331954176, 622070178250752),
    "qwen3-30b-a3b": (85087060230144, 365944098521088),
    "deepseek-v3": (906535995703296, 3674028304760832),
}


@pytest.mark.parametrize("model", VERL_CAUSAL)
def test_verl(model: str, models: Models) -> None:
    found = tuple(verl.training_flops(models[model], lengths) for lengths in (SHORT, LONG))
    assert found == VERL_CAUSAL[model]


@pytest.mark.parametrize("model", VERL_DENSE)
def test_verl_before_it_was_causal(model: str, models: Models) -> None:
    found = tuple(verl.training_flops(models[model], lengths, causal=False) for lengths in (SHORT, LONG))
    assert found == VERL_DENSE[model]


def test_verl_counts_the_embedding_lookup(models: Models) -> None:
    # 6Vh for each of 3584 tokens more than the dense closed form's 3 * 2*s*h*V of logits.
    sizes = models["llama-2-7b"]
    ours = sum(decoder(sizes, seq=each).training_step for each in SHORT)
    assert verl.training_flops(sizes, SHORT, causal=False) - ours == 6 * 32000 * 4096 * sum(SHORT)


def test_verl_halves_windows_by_a_rule_of_its_own(models: Models) -> None:
    """Gemma 3's attention at 3 x 4096: 2.227e13 by s*min(s, w)/2, 3.154e13 by s*w - w^2/2 (5 in 6 layers)."""
    sizes = models["gemma-3-12b"]
    linear = verl.training_flops(replace(sizes, windows=()), LONG) - 6 * 3 * 4096**2 * 16 * 256 * 48
    assert (verl.training_flops(sizes, LONG) - linear) / 1e13 == pytest.approx(2.227, abs=0.0005)
    assert maxtext.attention_flops(sizes, batch=3, sequence=4096) / 1e13 == pytest.approx(3.154, abs=0.0005)


# Megatron-LM, training.py, commit d98e8a6, run with these sizes: FLOPs per token, 8 digits.
MEGATRON = [
    ("gpt-3-175b", 2048, 1.0619474e12),
    ("llama-2-7b", 4096, 4.286369e10),
    ("llama-3-8b", 8192, 5.1470402e10),
    ("llama-3-70b", 8192, 4.4922254e11),
    ("mixtral-8x7b", 4096, 7.9706456e10),
    ("deepseek-v3", 4096, 2.4981205e11),
    ("deepseek-v2", 4096, 1.5501435e11),
]


@pytest.mark.parametrize(("model", "sequence", "per_token"), MEGATRON)
def test_megatron(model: str, sequence: int, per_token: float, models: Models) -> None:
    # 1e-7 is the last of the digits above.
    found = megatron.training_flops(models[model], [sequence]) / sequence
    assert found == pytest.approx(per_token, rel=2e-7)


def test_megatron_counts_packed_sequences_by_their_lengths(models: Models) -> None:
    sizes = models["llama-2-7b"]
    packed, whole = (megatron.training_flops(sizes, lengths) for lengths in ((1024,) * 4, (4096,)))
    # 6*a*d*L*(4096^2 - 4*1024^2)
    assert whole - packed == 6 * 4096 * 32 * (4096**2 - 4 * 1024**2)


def test_megatron_is_the_causal_half_of_the_dense_form(models: Models) -> None:
    # GPT-3: 2.174868e15 a sequence against Korthikanti's dense 2.204555e15: 12Ls^2h/2 less.
    sizes = models["gpt-3-175b"]
    dense = decoder(sizes, seq=2048).training_step
    assert dense - megatron.training_flops(sizes, [2048]) == 6 * 96 * 2048**2 * 12288


def test_megatrons_prediction_layers(models: Models) -> None:
    # One more layer of 8h^2 + 2h*ff (the attention and MLP of GPT-3), logits again, 3h + 2h^2; and its attention.
    sizes, h = models["gpt-3-175b"], 12288
    more = megatron.training_flops(sizes, [2048], mtp_layers=1) - megatron.training_flops(sizes, [2048])
    assert more == 6 * 2048 * (4 * h * h + 2 * h * 49152 + h * 51200 + 3 * h + 2 * h * h) + 6 * h * 2048**2


def test_megatron_knows_no_windows(models: Models) -> None:
    with pytest.raises(SizeError, match="windows = 1024: expected no window"):
        megatron.training_flops(models["gemma-3-12b"], [4096])


# MaxText, TFLOP a step as printed: pull request 644 (batch 12, 2048 tokens, dense).
@pytest.mark.parametrize(
    ("model", "printed"),
    [("llama-2-7b", 1053.4), ("llama-2-13b", 2018.7), ("llama-2-70b", 10528.0), ("gemma-2b", 391.8)],
)
def test_maxtext_pull_644(model: str, printed: float, models: Models) -> None:
    found = maxtext.training_flops(models[model], batch=12, sequence=2048, causal=False)
    assert found / 1e12 == pytest.approx(printed, abs=0.05)


def test_maxtext_counted_all_experts_once(models: Models) -> None:
    # Mixtral's 6946.5 in pull request 644 has every token meet all 8 experts; ours comes to 6946.4.
    every = replace(models["mixtral-8x7b"], experts=Experts(number=8, top_k=8, ff=14336))
    found = maxtext.training_flops(every, batch=12, sequence=2048, causal=False)
    assert found / 1e12 == pytest.approx(6946.5, abs=0.1)


# Pull request 1988 (batch 4): learnable, attention before and after it became causal.
@pytest.mark.parametrize(
    ("model", "sequence", "learnable", "dense", "causal"),
    [
        ("llama-2-7b", 8192, 1299.00, 422.21, 211.11),
        ("llama-2-7b", 129024, 20459.32, 104735.08, 52367.54),
        ("deepseek-v2-16b", 8192, 481.95, 222.65, 111.33),
    ],
)
def test_maxtext_pull_1988(
    model: str, sequence: int, learnable: float, dense: float, causal: float, models: Models
) -> None:
    sizes = models[model]
    found = [
        maxtext.learnable_flops(sizes, batch=4, sequence=sequence),
        maxtext.attention_flops(sizes, batch=4, sequence=sequence, causal=False),
        maxtext.attention_flops(sizes, batch=4, sequence=sequence),
    ]
    assert [flops / 1e12 for flops in found] == pytest.approx([learnable, dense, causal], abs=0.005)


def test_maxtext_totals_are_the_closed_form(models: Models) -> None:
    # 1721.22 as printed, and the same integer as our own dense form.
    sizes = models["llama-2-7b"]
    found = maxtext.training_flops(sizes, batch=4, sequence=8192, causal=False)
    assert found == decoder(sizes, batch=4, seq=8192).training_step == 1_721_216_733_806_592


def test_torchtitan_is_palms_formula_without_the_embedding(models: Models) -> None:
    # Llama-2-7B: N - Vh of 6,738,415,616 - 131,072,000; 12*L*h*s = 12 * 32 * 4096 * 4096
    found = torchtitan.token_flops(
        6_738_415_616,
        embedding=131_072_000,
        layers=32,
        heads=32,
        sequence=4096,
        query_size=128,
        value_size=128,
    )
    assert found == 6 * 6_607_343_616 + 12 * 32 * 4096 * 4096
    # What is left over our own dense form are 6 FLOPs for each of the (2L + 1)h norm weights.
    ours = decoder(models["llama-2-7b"], seq=4096).training_step
    assert found * 4096 - ours == 6 * 65 * 4096 * 4096


def test_torchtitan_refuses_an_embedding_larger_than_the_model() -> None:
    with pytest.raises(SizeError, match="embedding parameters = 11: expected at most parameters = 10"):
        torchtitan.token_flops(10, embedding=11, layers=1, heads=1, sequence=1, query_size=1, value_size=1)


@pytest.mark.parametrize(("training", "forwards", "right"), [(True, 5, 3), (False, 2, 1)])
def test_litgpt_counts_attention_twice(training: bool, forwards: int, right: int) -> None:
    """With nothing frozen: 6Ns + 5 * 4Lhs^2 in training and 2Ns + 2 * 4Lhs^2 in inference."""
    sizes = {"layers": 2, "width": 8, "sequence": 16}
    attention = 4 * 2 * 8 * 16**2
    linear = 2 * 1000 * 16 * (3 if training else 1)
    estimate = litgpt.estimated_flops(trainable=1000, frozen=0, **sizes, training=training)
    assert estimate == linear + forwards * attention
    assert litgpt.double_count(**sizes, training=training) == (forwards - right) * attention
    corrected = litgpt.corrected_flops(trainable=1000, frozen=0, **sizes, training=training)
    assert corrected == linear + right * attention


def test_litgpt_with_frozen_weights() -> None:
    # LoRA's rule: 6 FLOPs for trainable, 4 for frozen parameters
    found = litgpt.corrected_flops(trainable=10, frozen=1000, layers=1, width=4, sequence=8)
    assert found == 8 * (6 * 10 + 4 * 1000) + 3 * 4 * 4 * 64


def test_litgpt_reproduces_its_own_arithmetic() -> None:
    # pythia-14m's sizes (6 layers, width 128) by hand: 3*(2*N*512 + 6*4*128*512^2) + 2*(6*4*128*512^2)
    found = litgpt.estimated_flops(trainable=14_067_712, frozen=0, layers=6, width=128, sequence=512)
    assert found == 3 * (2 * 14_067_712 * 512 + 6 * 4 * 128 * 512**2) + 2 * 6 * 4 * 128 * 512**2
