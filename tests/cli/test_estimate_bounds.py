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
