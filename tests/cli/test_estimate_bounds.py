"""What an estimate says of a model holds for every step, and what it calls a bound for every implementation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pytest_flopguard.formulas.hardware.datasheets import gpu

Ask = Callable[..., dict[str, Any]]

H100 = gpu("h100").peak("bf16")


def test_matrix_parameters_are_a_property_of_the_model(ask: Ask) -> None:
    """DeepSeek-V3's config: what one token is multiplied with, whatever the step."""
    h, q, c, n, r, v, a = 7168, 1536, 512, 128, 64, 128, 128
    attention = h * q + q * a * (n + r) + h * (c + r) + c * a * (n + v) + a * v * h
    # Three dense layers of 18,432; 58 with a router, eight experts of 2,048 and a shared one; the head.
    hand = 61 * attention + 3 * 3 * h * 18_432 + 58 * (h * 256 + 9 * 3 * h * 2_048) + h * 129_280
    assert hand == 36_624_596_992
    for step in ([], ["--decode"], ["--train", "--batch", "2"]):
        assert ask("estimate", "deepseek-v3", "--seq", "4096", *step)["matrix_parameters"] == hand


def test_no_implementation_is_faster_than_the_lower_bound(ask: Ask) -> None:
    """Latent attention with absorbed weights, logits of one position, causal kernels, tf32."""

    def least(*arguments: str) -> float:
        found = ask("estimate", *arguments)["time"]["at_least_seconds"]
        assert isinstance(found, float)
        return found

    # 64 decode steps of DeepSeek-V3 with absorbed weights: scores over c + r = 576, values over c = 512, 128 heads, 61
    # layers; all weights and the latents read once by 8 H200 at 4.8e12 bytes/s.
    flops = 64 * (2 * 36_624_596_992 + 61 * 2 * 128 * 4096 * (576 + 512))
    moved = 2 * 671_026_404_352 + 64 * 4096 * 61 * 576 * 2
    absorbed = max(flops / (8 * H100), moved / (8 * 4.8e12))
    assert (
        0
        < least("deepseek-v3", "--seq", "4096", "--decode", "--batch", "64", "--gpu", "h200", "--gpus", "8")
        < absorbed
    )
    # Logits of one position of 128,256 instead of 1,024.
    forward = ask("estimate", "llama-3-8b", "--seq", "1024", "--attention", "causal")["flops"]["forward"]
    assert least("llama-3-8b", "--seq", "1024", "--gpu", "h100") <= (forward - 1023 * 2 * 4096 * 128_256) / H100
    assert least("llama-7b", "--seq", "128000", "--gpu", "h100") == least(
        "llama-7b", "--seq", "128000", "--gpu", "h100", "--attention", "causal"
    )
    # An A100 multiplies float32 at 156 TFLOP/s on its tensor cores, and at 19.5 without them.
    assert least("gpt2", "--seq", "8", "--train", "--dtype", "fp32", "--gpu", "a100") == pytest.approx(
        2 * least("gpt2", "--seq", "8", "--train", "--gpu", "a100")
    )
    # What checkpointing computes again is a choice.
    train = ("gpt2", "--seq", "1024", "--train", "--gpu", "a100")
    assert least(*train, "--recompute", "full") == least(*train)
    assert ask("estimate", "7B", "--seq", "8", "--gpu", "h100")["time"]["at_least_seconds"] is None


def test_a_token_of_an_encoder_decoder_passes_half_of_it(ask: Ask) -> None:
    """Brown et al. 2020, table D.1: T5-11B on 1,000 B tokens is 3.30e22 = 3*N*D, tokens of source and target."""
    found = ask("estimate", "t5-11b", "--seq", "512", "--tokens", "1024G")
    assert found["run"]["by_rule"] == 3 * found["parameters"] * 1024 * 10**9
    # A step of 512 source and 512 target tokens: the run is 10**9 such steps.
    assert found["run"]["flops"] == found["flops"]["total"] * 10**9
    assert found["flops"]["per_token"] * 1024 == found["flops"]["total"]
    assert found["flops"]["by_rule"] == 3 * found["parameters"] * 1024
    assert "of source and target together" in found["how"]["run.tokens"]


def test_full_recompute_of_a_number_of_parameters_is_8nd(ask: Ask) -> None:
    found = ask("estimate", "1.7T", "--tokens", "13T", "--recompute", "full")
    # 2ND forward, 4ND backward, 2ND again.
    assert found["run"]["flops"] == 8 * 1_700_000_000_000 * 13_000_000_000_000
    assert found["run"]["by_rule"] == 6 * 1_700_000_000_000 * 13_000_000_000_000


def test_sequence_parallelism_has_a_switch(ask: Ask) -> None:
    """Korthikanti et al. 2022, table 2, GPT-3: sbh(10 + 24/t + 5as/(ht)) without it, sbh/t*(34 + 5as/h) with it."""
    asked = ["estimate", "gpt-3-175b", "--seq", "2048", "--train", "--gpu", "a100", "--gpus", "8", "--tensor", "8"]
    plain, parallel = (ask(*asked, *flag)["memory"]["per_gpu"]["activations"] for flag in ([], ["--sequence-parallel"]))
    s, h, a, t, layers = 2048, 12288, 96, 8, 96
    whole = layers * s * h * 10
    assert plain - parallel == whole - whole // t
    assert 5 * a * s // h == 80


def test_the_recipe_is_named(ask: Ask) -> None:
    found = ask("estimate", "gpt2", "--seq", "8", "--train")
    assert found["memory"]["recipe"] == "mixed-adamw"
    assert "float32 master weights" in found["how"]["memory.recipe"]
    assert "flopguard memory" in found["how"]["memory.recipe"]
