"""Papers' FLOP formulas against the numbers in their tables."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

import pytest

from pytest_flopguard.core.errors import SizeError, UnknownNameError
from pytest_flopguard.formulas.architectures.decoder_sizes import DecoderSizes
from pytest_flopguard.formulas.architectures.transformer import decoder
from pytest_flopguard.formulas.published import (
    chinchilla,
    de_vries,
    flash_attention,
    kaplan,
    korthikanti,
    narayanan,
    palm,
)
from pytest_flopguard.formulas.scaling.training_time import utilization, utilization_from_rate


# Harm de Vries: LLaMA-7B "8 % at 4K, 16-33 % at 8-16K, 260 % at 128K". K is 1000: 131,072 would be 267 %.
@pytest.mark.parametrize(("context", "printed"), [(4_000, 8), (8_000, 16), (16_000, 33), (128_000, 260)])
def test_de_vries_llama_7b(context: int, printed: float) -> None:
    assert 100 * float(de_vries.attention_overhead(width=4096, context=context)) == pytest.approx(printed, abs=0.5)


def test_de_vries_by_hand() -> None:
    assert de_vries.attention_overhead(width=4096, context=4096) == Fraction(4097, 12 * 4096)
    assert de_vries.layer_flops(width=2, context=3) == {"mlp": 192, "projections": 96, "attention": 48}
    # 128K costs 3.5 times 2K, "one week to three and a half".
    at = {context: 1 + de_vries.attention_overhead(width=4096, context=context) for context in (2_000, 128_000)}
    assert float(at[128_000] / at[2_000]) == pytest.approx(3.5, abs=0.05)
    # GPT-3 at 64K "about 40 %": 43.4 % with 64,000, so that figure is loose.
    assert 100 * float(de_vries.attention_overhead(width=12288, context=64_000)) == pytest.approx(43.4, abs=0.05)


def test_de_vries_is_our_causal_form() -> None:
    sizes = DecoderSizes(width=64, layers=3, heads=4, ff=256, vocab=10)
    ours = decoder(sizes, seq=100, attention="causal").by_name()
    body = sum(flops for name, flops in ours.items() if name != "lm_head")
    # Forward and backward are three forwards; sums over 100 tokens.
    assert 3 * body == 100 * 3 * sum(de_vries.layer_flops(width=64, context=100).values())


def test_kaplan() -> None:
    # GPT-2 small: 12 * 12 * 768^2 and 2N + 2 * 12 * 1024 * 768.
    sizes = {"layers": 12, "width": 768}
    assert kaplan.parameters(**sizes) == 84_934_656
    assert kaplan.forward_flops(**sizes, context=1024) == 188_743_680
    rows = kaplan.table_1(**sizes, context=1024, vocabulary=50257)
    assert sum(rows.values()) - rows["embed"] - rows["de_embed"] == 188_743_680
    assert (rows["embed"], rows["de_embed"]) == (4 * 768, 2 * 768 * 50257)
    # d > n/12 is where the context may be left out.
    assert [kaplan.context_is_negligible(width=10, context=each) for each in (119, 120)] == [True, False]


def test_kaplans_context_term_is_the_causal_average() -> None:
    # 2*L*n*d against our causal 2*L*(n + 1)*d a token and the dense 4*L*n*d
    sizes = DecoderSizes(width=64, layers=2, heads=4, ff=256, vocab=10)
    theirs = 2 * 2 * 100 * 64
    causal, dense = (
        sum(
            flops
            for name, flops in decoder(sizes, seq=100, attention=kind).by_name().items()
            if name.startswith("attention_")
        )
        for kind in ("causal", "dense")
    )
    assert causal == 100 * theirs * 101 // 100
    assert dense == 100 * theirs * 2


# Hoffmann et al., table A4: layers, width, heads, ff, parameters (M), FLOPs over 6ND; V 32,000, s 2048.
TABLE_A4 = [
    (10, 640, 10, 2560, 73, 1.03, 1.58),
    (20, 1024, 16, 4096, 305, 1.10, 1.32),
    (24, 1280, 10, 5120, 552, 1.08, 1.23),
    (26, 1792, 14, 7168, 1143, 1.04, 1.14),
    (28, 2048, 16, 8192, 1593, 1.03, 1.12),
    (40, 3584, 28, 14336, 6796, 0.99, 1.03),
]


@pytest.mark.parametrize(("layers", "width", "heads", "ff", "millions", "printed", "by_the_text"), TABLE_A4)
def test_chinchilla_table_a4(
    layers: int, width: int, heads: int, ff: int, millions: int, printed: float, by_the_text: float
) -> None:
    sizes = {
        "layers": layers, "width": width, "heads": heads, "ff": ff, "key_size": width // heads, "vocabulary": 32_000
    }  # fmt: skip
    parameters = chinchilla.parameters(**sizes)
    # The table names models in millions, which are up to 4 % from any count of their parameters.
    assert parameters / 1e6 == pytest.approx(millions, rel=0.04)
    ratio = {
        edges: chinchilla.training_flops(**sizes, sequence=2048, edges=edges) / (6 * parameters * 2048)
        for edges in (False, True)
    }
    # Printed to two digits. Only without embeddings and logits; the text's own terms give the other column.
    assert ratio[False] == pytest.approx(printed, abs=0.006)
    assert ratio[True] == pytest.approx(by_the_text, abs=0.006)


def test_chinchilla_terms_by_hand() -> None:
    found = chinchilla.forward_terms(layers=2, width=8, heads=2, key_size=4, ff=16, vocabulary=10, sequence=3)
    assert found == {
        "embeddings": 480,  # 2*3*10*8
        "qkv": 2304,  # 2 * 6*3*8*8
        "scores": 288,  # 2 * 2*9*8
        "softmax": 108,  # 2 * 3*2*9
        "values": 288,
        "out": 768,  # 2 * 2*3*8*8
        "mlp": 3072,  # 2 * 4*3*8*16
        "logits": 480,
    }


# PaLM, appendix B: billions of parameters, layers, heads, TFLOP per token without and with recomputation.
PALM = [
    (8_630_000_000, 32, 16, Fraction(0), 0.0550, 0.0561, 0.00005),
    (62_500_000_000, 64, 32, Fraction(0), 0.388, 0.392, 0.0005),
    (540_350_000_000, 118, 48, Fraction(3, 4), 3.28, 4.10, 0.005),
]


@pytest.mark.parametrize(("parameters", "layers", "heads", "recomputed", "model", "hardware", "within"), PALM)
def test_palm(
    parameters: int, layers: int, heads: int, recomputed: Fraction, model: float, hardware: float, within: float
) -> None:
    sizes = {"layers": layers, "heads": heads, "head_size": 256, "sequence": 2048}
    assert palm.token_flops(parameters, **sizes) / 1e12 == pytest.approx(model, abs=within)
    found = palm.hardware_token_flops(parameters, **sizes, recomputed=recomputed)
    assert found / 1e12 == pytest.approx(hardware, abs=within)


# Total training FLOPs: 780 B tokens, and 795 B for 62B.
@pytest.mark.parametrize(("row", "tokens", "printed"), [(0, 780, 4.29e22), (1, 795, 3.08e23), (2, 780, 2.56e24)])
def test_palm_totals(row: int, tokens: int, printed: float) -> None:
    parameters, layers, heads, *_ = PALM[row]
    per_token = palm.token_flops(parameters, layers=layers, heads=heads, head_size=256, sequence=2048)
    assert per_token * tokens * 10**9 == pytest.approx(printed, rel=0.003)


def test_palms_utilisation() -> None:
    # 238.3 K tokens/s on 6144 TPU v4 of 275 TFLOP/s: MFU 46.2 %, 45.7 % without attention, HFU 57.8 %.
    where = {"tokens_per_second": 238_300, "gpus": 6144, "peak": 275 * 10**12}
    sizes = {"layers": 118, "heads": 48, "head_size": 256, "sequence": 2048}
    n = 540_350_000_000
    flops = (
        palm.token_flops(n, **sizes),
        6 * n,
        palm.hardware_token_flops(n, **sizes, recomputed=Fraction(3, 4)),
    )
    found = [100 * utilization_from_rate(each, **where) for each in flops]
    assert found == pytest.approx([46.2, 45.7, 57.8], abs=0.05)


def test_palm_on_mt_nlg() -> None:
    # 530B, 105 layers of 128 heads of 160; 1920 sequences of 2048 in 60.1 s on 2240 A100. Printed 29.7 % and 30.2 %
    # are cut, not rounded.
    where = {"seconds": 60.1, "gpus": 2240, "peak": 312 * 10**12}
    tokens = 1920 * 2048
    with_attention = palm.token_flops(530_000_000_000, layers=105, heads=128, head_size=160, sequence=2048)
    found = [1000 * utilization(each * tokens, **where) for each in (6 * 530_000_000_000, with_attention)]
    assert [int(each) for each in found] == [297, 302]


def test_palm_on_gpt_2() -> None:
    # nanoGPT's transformer_sizing notebook: 875,062,886,400 a sequence of 1024, N without the position table.
    per_token = palm.token_flops(124_337_664 - 1024 * 768, layers=12, heads=12, head_size=64, sequence=1024)
    assert 1024 * per_token == 875_062_886_400


def test_palm_refuses_fractions_of_a_flop() -> None:
    sizes = {"layers": 1, "heads": 1, "head_size": 1, "sequence": 1}
    for share in (Fraction(1, 3), Fraction(3, 2), Fraction(-1, 2)):
        with pytest.raises(SizeError, match=r"recomputed = .*a share from 0 to 1"):
            palm.hardware_token_flops(10, **sizes, recomputed=share)


# Narayanan et al., table 1: billions of parameters, width, layers, GPUs, batch, TFLOP/s per GPU, PFLOP/s; V 51,200.
TABLE_1 = [
    (1.7, 2304, 24, 32, 512, 137, 4.4),
    (3.6, 3072, 30, 64, 512, 138, 8.8),
    (7.5, 4096, 36, 128, 512, 142, 18.2),
    (18.4, 6144, 40, 256, 1024, 135, 34.6),
    (76.1, 10240, 60, 1024, 1792, 140, 143.8),
    (145.6, 12288, 80, 1536, 2304, 148, 227.1),
    (529.6, 20480, 105, 2520, 2520, 163, 410.2),
    (1008.0, 25600, 128, 3072, 3072, 163, 502.0),
]


@pytest.mark.parametrize(("billions", "width", "layers", "gpus", "batch", "tflops", "total"), TABLE_1)
def test_narayanan_table_1(
    billions: float, width: int, layers: int, gpus: int, batch: int, tflops: int, total: float
) -> None:
    found = narayanan.parameters(layers=layers, width=width, vocabulary=51_200, sequence=2048)
    assert found / 1e9 == pytest.approx(billions, abs=0.051)
    # The last column is a product of measurements, GPUs times TFLOP/s each, which are rounded to a whole.
    assert gpus * tflops / 1000 == pytest.approx(total, rel=0.5 / tflops + 0.05 / total)


# Table 2: model, GPUs, TFLOP/s per GPU, days for 300 B tokens.
TABLE_2 = [
    ("175B", 384, 144, 90), ("175B", 768, 88, 74), ("175B", 1536, 44, 74),
    ("530B", 640, 138, 169), ("530B", 1120, 98, 137), ("530B", 2240, 48, 140),
    ("175B", 384, 153, 84), ("175B", 768, 149, 43), ("175B", 1536, 141, 23),
    ("530B", 560, 171, 156), ("530B", 1120, 167, 80), ("530B", 2240, 159, 42),
]  # fmt: skip
SIZES_2 = {"175B": {"layers": 96, "width": 12288}, "530B": {"layers": 105, "width": 20480}}


@pytest.mark.parametrize(("model", "gpus", "tflops", "days"), TABLE_2)
def test_narayanan_table_2(model: str, gpus: int, tflops: int, days: int) -> None:
    per_sequence = narayanan.iteration_flops(**SIZES_2[model], vocabulary=51_200, sequence=2048, batch=1)
    found = per_sequence * (300e9 / 2048) / (gpus * tflops * 1e12) / 86_400
    # Days and TFLOP/s are whole numbers in print: half a day, half a TFLOP/s.
    assert found == pytest.approx(days, abs=0.5 + days * 0.6 / tflops)


# Section 5.3: "34 days" for 175B on 1024 GPUs at 140, "84 days" for 1T on 3072 at 163.
@pytest.mark.parametrize(
    ("parameters", "tokens", "gpus", "tflops", "days"), [(175, 300, 1024, 140, 34), (1000, 450, 3072, 163, 84)]
)
def test_narayanan_equation_4(parameters: int, tokens: int, gpus: int, tflops: int, days: int) -> None:
    found = narayanan.training_seconds(
        parameters=parameters * 10**9, tokens=tokens * 10**9, gpus=gpus, achieved=tflops * 1e12
    )
    # The 1T model has 1008 billion parameters, and 84 days follow from 1000 or 1008 within 1.5 %.
    assert found / 86_400 == pytest.approx(days, rel=0.015)


# Korthikanti et al., tables 3 and 5: heads apart, width, layers, GPUs, batch; seconds, MFU, HFU; HFU by the text.
KORTHIKANTI = [
    (6144, 48, 8, 4, 1.10, 41.5, 43.7, 42.4),
    (12288, 96, 64, 64, 13.75, 51.4, 52.8, 51.9),
    (20480, 105, 280, 280, 37.83, 56.0, 57.0, 56.4),
    (25600, 128, 512, 512, 71.49, 56.3, 57.0, 56.5),
]


@pytest.mark.parametrize(("width", "layers", "gpus", "batch", "seconds", "mfu", "hfu", "by_the_text"), KORTHIKANTI)
def test_korthikanti_table_5(
    width: int, layers: int, gpus: int, batch: int, seconds: float, mfu: float, hfu: float, by_the_text: float
) -> None:
    sizes = {"layers": layers, "width": width, "vocabulary": 51_200, "sequence": 2048, "batch": batch}
    forms = (korthikanti.model_flops, korthikanti.hardware_flops_as_printed, korthikanti.hardware_flops)
    found = [100 * utilization(form(**sizes), seconds=seconds, gpus=gpus, peak=312 * 10**12) for form in forms]
    # Seconds have three or four digits: 1.10 is known to 0.5 %.
    assert found[:2] == pytest.approx([mfu, hfu], rel=0.005)
    assert found[2] == pytest.approx(by_the_text, abs=0.051)


def test_korthikanti_with_data_parallelism() -> None:
    # 530B on 8 times 280 GPUs: 39.15 s, 54.2 %.
    work = korthikanti.model_flops(layers=105, width=20480, vocabulary=51_200, sequence=2048, batch=8 * 280)
    found = utilization(work, seconds=39.15, gpus=8 * 280, peak=312 * 10**12)
    assert 100 * found == pytest.approx(54.2, rel=0.005)


@pytest.mark.parametrize(("width", "layers", "printed", "right"), [(12288, 96, 2.7, 0.90), (20480, 105, 1.6, 0.55)])
def test_what_selective_recompute_costs(width: int, layers: int, printed: float, right: float) -> None:
    # Section 5: 2.7 % for GPT-3 and 1.6 % for MT-NLG, which is three times one forward of the core.
    sizes = {"layers": layers, "width": width, "vocabulary": 51_200, "sequence": 2048, "batch": 1}
    model = korthikanti.model_flops(**sizes)
    found = [100 * (form(**sizes) - model) / model for form in (
        korthikanti.hardware_flops_as_printed, korthikanti.hardware_flops
    )]  # fmt: skip
    assert found == pytest.approx([printed, right], abs=0.051)


def test_korthikanti_equation_7_is_our_dense_form() -> None:
    # GPT-3 175B, one sequence of 2048: 2,204,555,173,429,248.
    sizes = DecoderSizes(width=12288, layers=96, heads=96, ff=49152, vocab=51200)
    ours = decoder(sizes, seq=2048).training_step
    theirs = korthikanti.model_flops(layers=96, width=12288, vocabulary=51_200, sequence=2048, batch=1)
    assert ours == theirs == 2_204_555_173_429_248


def test_flash_attention() -> None:
    sizes = {"batch": 2, "sequence": 8192, "heads": 16, "head_size": 128}
    assert flash_attention.core_flops(**sizes, causal=True) == 549_755_813_888
    assert flash_attention.core_flops(**sizes) == 2 * 549_755_813_888
    forward, backward, both = (
        flash_attention.core_flops(**sizes, causal=True, mode=mode) for mode in ("forward", "backward", "both")
    )
    assert (2 * backward, 2 * both) == (5 * forward, 7 * forward)
    assert forward + backward == both
    with pytest.raises(UnknownNameError, match=r"unknown mode 'foward'.*did you mean 'forward'"):
        flash_attention.core_flops(**sizes, mode="foward")


ZERO: list[tuple[object, Mapping[str, int], str]] = [
    (de_vries.layer_flops, {"width": 0, "context": 1}, "width = 0"),
    (kaplan.parameters, {"layers": 0, "width": 1}, "layers = 0"),
    (kaplan.forward_flops, {"layers": 1, "width": 1, "context": -1}, "context = -1"),
    (narayanan.parameters, {"layers": 1, "width": 1, "vocabulary": 0, "sequence": 1}, "vocabulary = 0"),
    (
        korthikanti.model_flops,
        {"layers": 1, "width": 1, "vocabulary": 1, "sequence": 1, "batch": 0},
        "batch = 0",
    ),
]


def test_a_rate_of_zero_is_an_error() -> None:
    with pytest.raises(SizeError, match=r"achieved FLOP/s = 0\.0: expected a number above 0"):
        narayanan.training_seconds(parameters=1, tokens=1, gpus=1, achieved=0.0)


@pytest.mark.parametrize(("form", "sizes", "told"), ZERO)
def test_bad_sizes(form: object, sizes: Mapping[str, int], told: str) -> None:
    assert callable(form)
    with pytest.raises(SizeError, match=told):
        form(**sizes)
