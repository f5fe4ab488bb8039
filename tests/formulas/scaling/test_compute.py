from __future__ import annotations

import pytest

from pytest_flopguard.core.errors import SizeError
from pytest_flopguard.formulas.scaling.compute import (
    ENCODER_DECODER_TRAINING,
    PF_DAY,
    forward_compute,
    inference_compute,
    pf_days,
    training_compute,
)

# Brown et al. 2020 (arXiv 2005.14165), table D.1: model, millions of parameters, billions of tokens, FLOPs, PF-days.
TABLE_D1 = [
    ("T5-Small", 60, 1000, 1.80e20, 2.08),
    ("T5-Base", 220, 1000, 6.60e20, 7.64),
    ("T5-Large", 770, 1000, 2.31e21, 26.7),
    ("T5-3B", 3000, 1000, 9.00e21, 104),
    ("T5-11B", 11000, 1000, 3.30e22, 382),
    ("BERT-Base", 109, 250, 1.64e20, 1.89),
    ("BERT-Large", 355, 250, 5.33e20, 6.16),
    ("RoBERTa-Base", 125, 2000, 1.50e21, 17.4),
    ("RoBERTa-Large", 355, 2000, 4.26e21, 49.3),
    ("GPT-3 Small", 125, 300, 2.25e20, 2.60),
    ("GPT-3 Medium", 356, 300, 6.41e20, 7.42),
    ("GPT-3 Large", 760, 300, 1.37e21, 15.8),
    ("GPT-3 XL", 1320, 300, 2.38e21, 27.5),
    ("GPT-3 2.7B", 2650, 300, 4.77e21, 55.2),
    ("GPT-3 6.7B", 6660, 300, 1.20e22, 139),
    ("GPT-3 13B", 12850, 300, 2.31e22, 268),
    ("GPT-3 175B", 174600, 300, 3.14e23, 3640),
]


@pytest.mark.parametrize(("model", "millions", "billions", "flops", "days"), TABLE_D1)
def test_gpt_3_table_d1(model: str, millions: int, billions: int, flops: float, days: float) -> None:
    # In T5 a token passes one half of the parameters: 3ND.
    factor = ENCODER_DECODER_TRAINING if model.startswith("T5") else 6
    found = training_compute(millions * 10**6, billions * 10**9, per_parameter=factor)
    # Three digits in print, of which the last may be off by one.
    assert found == pytest.approx(flops, rel=0.005)
    assert pf_days(found) == pytest.approx(days, rel=0.005)


# Hoffmann et al. 2022 (arXiv 2203.15556), table 3: parameters, tokens, FLOPs. Its FLOPs are those of appendix F and
# not 6ND, which differs by up to 5 %.
@pytest.mark.parametrize(
    ("parameters", "tokens", "flops"),
    [
        (400e6, 8.0e9, 1.92e19),
        (1e9, 20.2e9, 1.21e20),
        (10e9, 205.1e9, 1.23e22),
        (67e9, 1.5e12, 5.76e23),
        (175e9, 3.7e12, 3.85e24),
        (520e9, 11.0e12, 3.43e25),
        (1e12, 21.2e12, 1.27e26),
        (10e12, 216.2e12, 1.30e28),
    ],
)
def test_chinchilla_table_3(parameters: float, tokens: float, flops: float) -> None:
    assert training_compute(int(parameters), int(tokens)) == pytest.approx(flops, rel=0.05)


def test_three_budgets_of_gopher() -> None:
    # 280B on 300B tokens: 5.04e23 by 6ND (as PaLM has it), 5.76e23 in Chinchilla, 6.31e23 in Gopher's paper.
    assert training_compute(280 * 10**9, 300 * 10**9) == 504 * 10**21


def test_llama_3_1_405b() -> None:
    # "3.8e25 FLOPs" in its report: 6 * 405e9 * 15.6e12
    assert training_compute(405 * 10**9, 15_600 * 10**9) == pytest.approx(3.8e25, rel=0.003)


def test_llama_2_7b_per_token() -> None:
    # Analysis of Llama 3, question 2: 6.738B; 13.5 GFLOP forward and 40.4 in training a token; 13.2 by the 6.607B
    # parameters that are in a product.
    n = 6_738_415_616
    found = [forward_compute(n, 1), training_compute(n, 1), forward_compute(n - 32_000 * 4096, 1)]
    assert [each / 1e9 for each in found] == pytest.approx([13.5, 40.4, 13.2], abs=0.05)


def test_inference_of_source_e() -> None:
    # B*S*(2N + 4LhS') with 3 sequences, 5 tokens, 7 keys: 15 * (200 + 4*2*8*7)
    assert inference_compute(100, batch=3, new_tokens=5, context=7, layers=2, width=8) == 15 * (200 + 448)


def test_a_petaflops_day() -> None:
    assert PF_DAY == 86_400 * 10**15
    assert pf_days(PF_DAY) == 1.0


@pytest.mark.parametrize(
    ("parameters", "tokens", "told"),
    [(0, 1, "parameters = 0"), (1, -1, "tokens = -1"), (1e9, 1, r"parameters = 1000000000\.0")],
)
def test_bad_sizes(parameters: int, tokens: int, told: str) -> None:
    with pytest.raises(SizeError, match=told):
        training_compute(parameters, tokens)


def test_flops_stay_exact_past_float_precision() -> None:
    assert training_compute(10**12 + 1, 10**13 + 1) == 6 * (10**12 + 1) * (10**13 + 1)
