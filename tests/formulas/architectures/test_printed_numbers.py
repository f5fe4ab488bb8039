"""Numbers that papers, repositories and model cards print, from the closed forms of this package.

The values are as printed; where a row says "exactly" they are integers, elsewhere they must round to the printed
digits.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from pytest_flopguard.formulas.architectures.block import Block
from pytest_flopguard.formulas.architectures.decoder_sizes import DecoderSizes
from pytest_flopguard.formulas.architectures.families import from_config
from pytest_flopguard.formulas.architectures.models import closed_form, parameters
from pytest_flopguard.formulas.architectures.parameters import active_parameters
from pytest_flopguard.formulas.architectures.presets import preset
from pytest_flopguard.formulas.architectures.transformer import decoder
from pytest_flopguard.formulas.architectures.vision_transformer import VisionSizes, vision_transformer
from pytest_flopguard.formulas.breakdown import Breakdown

TERA = 10**12


def sizes(name: str) -> DecoderSizes:
    found = from_config(preset(name))
    assert isinstance(found, DecoderSizes)
    return found


def gpt(h: int, layers: int, heads: int, vocab: int = 51200, positions: int = 2048) -> DecoderSizes:
    return DecoderSizes(
        width=h, layers=layers, heads=heads, ff=4 * h, vocab=vocab, positions=positions, tied=True, norm_bias=True,
        qkv_bias=True, out_bias=True, mlp_bias=True,
    )  # fmt: skip


def parts(form: Breakdown) -> tuple[int, int, int]:
    """Return the training FLOPs of matrices, of attention's scores and values, and of routers."""
    attention = sum(each.training_step for each in form if each.name.startswith("attention"))
    router = sum(each.training_step for each in form if each.name == "router")
    return form.training_step - attention - router, attention, router


def test_nanogpt():
    # karpathy/nanoGPT, transformer_sizing.ipynb: printed exactly.
    form = decoder(sizes("gpt2"), seq=1024)
    assert (form.forward, form.training_step) == (291_648_307_200, 874_944_921_600)
    # Its parameters leave biases out; norms have none either: s*h + V*h + L*(12*h^2 + 2*h) + h.
    plain = replace(sizes("gpt2"), qkv_bias=False, out_bias=False, mlp_bias=False, norm_bias=False)
    assert parameters(plain) == 124_337_664
    # PaLM's formula on the same sizes, printed in the notebook: 6*(N - position table) + 12*L*a*d*s per token.
    assert 1024 * (6 * (124_337_664 - 1024 * 768) + 12 * 12 * 768 * 1024) == 875_062_886_400


@pytest.mark.parametrize(("context", "percent"), [(4000, 8), (8000, 16), (16_000, 33), (128_000, 260)])
def test_in_the_long_context_run(context, percent):
    # H. de Vries 2023: per token and layer, forward and backward, causal: FFN 48*d^2, QKVO 24*d^2, attention
    # 6*d*(L + 1); LLaMA-7B's width with an FFN of 4*d. Its K is 1,000: 131,072 would give 267 %, and 8,192 17 %.
    d = 4096
    form = decoder(
        DecoderSizes(width=d, layers=1, heads=32, ff=4 * d, vocab=1), seq=context, attention="causal", logits=0
    )
    per_token = {each.name: each.training_step // context for each in form}
    assert per_token["mlp"] == 48 * d**2
    assert per_token["qkv"] + per_token["out"] == 24 * d**2
    attention = per_token["attention_scores"] + per_token["attention_values"]
    assert attention == 6 * d * (context + 1)
    assert round(100 * attention / (72 * d**2)) == percent


def test_the_cost_of_a_long_context():
    # The same post: 128K tokens of context cost 3.5 times 2K for LLaMA-7B.
    shape = DecoderSizes(width=4096, layers=1, heads=32, ff=4 * 4096, vocab=1)
    short, long = (decoder(shape, seq=s, attention="causal", logits=0).training_step / s for s in (2048, 128_000))
    assert round(long / short, 1) == 3.5


@pytest.mark.parametrize(
    ("billions", "layers", "heads", "width", "teraflops"),
    [("8.63", 32, 16, 4096, ".0550"), ("62.50", 64, 32, 8192, ".388"), ("540.36", 118, 48, 18432, "3.28")],
)
def test_palm(billions, layers, heads, width, teraflops):
    # Chowdhery et al. 2022 (arXiv 2204.02311), table 1 and appendix B: TFLOP per token, dense, sequences of 2048.
    # The paper prints the parameters as 8.63B, 62.50B and 540.35B; the last is cut, not rounded (540.3586).
    form = DecoderSizes(
        width=width, layers=layers, heads=heads, kv_heads=1, head_dim=256, ff=4 * width, gated=True, vocab=256_000,
        tied=True,
    )  # fmt: skip
    assert f"{parameters(form) / 1e9:.2f}" == billions
    digits = len(teraflops.partition(".")[2])
    assert f"{decoder(form, seq=2048).training_step / 2048 / 1e12:.{digits}f}".lstrip("0") == teraflops


NARAYANAN = [
    ("1.7", 2304, 24), ("3.6", 3072, 30), ("7.5", 4096, 36), ("18.4", 6144, 40), ("39.1", 8192, 48),
    ("76.1", 10240, 60), ("145.6", 12288, 80), ("310.1", 16384, 96), ("529.6", 20480, 105), ("1008.0", 25600, 128),
]  # fmt: skip


@pytest.mark.parametrize(("billions", "h", "layers"), NARAYANAN)
def test_narayanan(billions, h, layers):
    # Narayanan et al. 2021 (arXiv 2104.04473), table 1: parameters in billions; eq. 2 leaves the last norm (2*h) out.
    shape, s, V, B = gpt(h, layers, h // 128), 2048, 51200, 3
    assert parameters(shape) - 2 * h == 12 * layers * h**2 + 13 * layers * h + (V + s) * h
    assert f"{(parameters(shape) - 2 * h) / 1e9:.1f}" == billions
    # Eq. 3 with everything recomputed but the logits: 96*B*s*l*h^2*(1 + s/(6*h) + V/(16*l*h)), exactly.
    step = decoder(shape, batch=B, seq=s).recomputed(but=("lm_head",)).hardware_step
    assert step == 96 * B * s * layers * h**2 + 16 * B * s**2 * layers * h + 6 * B * s * h * V


@pytest.mark.parametrize(
    ("h", "layers", "heads", "batch"),
    [(6144, 48, 64, 4), (12288, 96, 96, 64), (20480, 105, 128, 280), (25600, 128, 160, 512)],
)  # fmt: skip
def test_korthikanti(h, layers, heads, batch):
    # Korthikanti et al. 2022 (arXiv 2205.05198), table 3's shapes: eq. 7 as integers, and, by the paper's own text,
    # selective recompute adds the forward of attention, 4*B*L*s^2*h; its printed eq. 8 adds 12*B*L*s^2*h.
    s, V = 2048, 51200
    form = decoder(gpt(h, layers, heads), batch=batch, seq=s)
    assert form.training_step == 72 * batch * layers * s * h**2 + 12 * batch * layers * s**2 * h + 6 * batch * s * h * V
    selective = form.recomputed("attention_scores", "attention_values")
    assert selective.hardware_step - form.training_step == 4 * batch * layers * s**2 * h


@pytest.mark.parametrize(
    ("name", "vocab", "seq", "per_token"),
    [
        ("gpt-3-175b", 51200, 2048, "1.0619474e+12"),
        ("llama-2-7b", 0, 4096, "4.286369e+10"),
        ("llama-3-8b", 0, 8192, "5.1470402e+10"),
        ("llama-3-70b", 0, 8192, "4.4922254e+11"),
        ("mixtral-8x7b", 0, 4096, "7.9706456e+10"),
        ("deepseek-v3", 0, 4096, "2.4981130e+11"),
        ("deepseek-v2", 0, 4096, "1.5501361e+11"),
    ],
)
def test_megatron(name, vocab, seq, per_token):
    # NVIDIA/Megatron-LM, num_floating_point_operations (training.py, d98e8a6), run on these sizes: attention is half of
    # dense (s^2/2, not s*(s + 1)/2), and routers are left out. For latent attention Megatron also counts the norms of
    # the latents and prints 2.4981205e11 and 1.5501435e11, within 1e-5 of the products.
    shape = replace(sizes(name), vocab=vocab) if vocab else sizes(name)
    matrices, attention, _ = parts(decoder(shape, seq=seq))
    digits = len(per_token.partition("e")[0]) - 2
    assert f"{(matrices + attention / 2) / seq:.{digits}e}" == per_token


MAXTEXT = [
    ("llama-2-7b", 12, 2048, "1053.4"), ("llama-2-13b", 12, 2048, "2018.7"), ("llama-2-70b", 12, 2048, "10528.0"),
    ("gemma-2b", 12, 2048, "391.8"), ("llama-2-7b", 4, 8192, "1721.22"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "batch", "seq", "teraflops"), MAXTEXT)
def test_maxtext_dense(name, batch, seq, teraflops):
    # AI-Hypercomputer/maxtext, pull requests 644 and 1988: TFLOP of a training step.
    digits = len(teraflops.partition(".")[2])
    assert f"{decoder(sizes(name), batch=batch, seq=seq).training_step / TERA:.{digits}f}" == teraflops


@pytest.mark.parametrize(
    ("name", "seq", "learnable", "dense", "causal"),
    [
        ("llama-2-7b", 8192, "1299.00", "422.21", "211.11"),
        ("llama-2-7b", 129_024, "20459.32", "104735.08", "52367.54"),
        ("deepseek-v2-lite", 8192, "481.95", "222.65", "111.33"),
    ],
)
def test_maxtext_before_and_after_causal(name, seq, learnable, dense, causal):
    # AI-Hypercomputer/maxtext, pull request 1988, batch 4: learnable weights, and attention before and after.
    matrices, attention, router = parts(decoder(sizes(name), batch=4, seq=seq))
    found = ((matrices + router) / TERA, attention / TERA, attention / 2 / TERA)
    assert tuple(f"{each:.2f}" for each in found) == (learnable, dense, causal)


SHORT, LONG = (512, 1024, 2048), (4096, 4096, 4096)
VERL = [
    ("llama-2-7b", SHORT, 153_555_818_250_240, 149_226_491_215_872),
    ("llama-2-7b", LONG, 575_955_114_393_600, 536_372_695_793_664),
    ("qwen2.5-7b", SHORT, 170_388_331_954_176, 167_073_690_943_488),
    ("qwen2.5-7b", LONG, 622_070_178_250_752, 591_764_889_010_176),
    ("qwen3-30b-a3b", SHORT, 85_087_060_230_144, 78_593_069_678_592),
    ("qwen3-30b-a3b", LONG, 365_944_098_521_088, 306_570_470_621_184),
    # Its dense numbers for DeepSeek-V3 take 12*192 for 6*(192 + 128): 906,535,995,703,296 and 3,674,028,304,760,832.
    ("deepseek-v3", SHORT, None, 848_766_538_088_448),
    ("deepseek-v3", LONG, None, 3_145_850_406_567_936),
]


@pytest.mark.parametrize(("name", "lengths", "dense", "halved"), VERL)
def test_verl(name, lengths, dense, halved):
    # verl-project/verl, tests/utils/test_flops_counter.py (013146c dense, 7de1304 halved), exactly: packed sequences,
    # forward and backward. It counts the embedding lookup as a product, which adds 6*V*h a token.
    shape = sizes(name)
    forms = [parts(decoder(shape, seq=each)) for each in lengths]
    lookups = 6 * shape.vocab * shape.width * sum(lengths)
    linear = lookups + sum(matrices + router for matrices, _, router in forms)
    attention = sum(each for _, each, _ in forms)
    assert linear + attention // 2 == halved
    if dense is not None:
        assert linear + attention == dense


@pytest.mark.parametrize(
    ("name", "lengths", "printed"),
    [
        ("gemma-3-12b", SHORT, 279_084_659_638_272),
        ("gemma-3-12b", LONG, 963_929_979_224_064),
        ("gpt-oss-20b", SHORT, 91_780_464_771_072),
        ("gpt-oss-20b", LONG, 323_953_008_574_464),
    ],
)
def test_verl_with_windows(name, lengths, printed):
    # The same file, exactly. It halves a window too, s*w/2; a causal window has s*w - w*(w - 1)/2 pairs, which is more.
    shape = sizes(name)
    total = exact = 0
    for s in lengths:
        matrices, _, router = parts(decoder(shape, seq=s))
        linear = matrices + router + 6 * shape.vocab * shape.width * s
        halved = sum(6 * shape.heads * shape.head_dim * s * min(s, window or s) for window in shape.windows)
        total += linear + halved
        exact += linear + parts(decoder(shape, seq=s, attention="causal"))[1]
    assert total == printed
    assert exact > printed


def without(form: Breakdown, *names: str) -> int:
    return form.forward - sum(form.by_name()[name] for name in names)


def test_calflops():
    # MrYxJ/calculate-flops.pytorch, README: GMACs at 1 x 128. Pythia and BLOOM are listed without the LM head, and of
    # BLOOM it misses the scores, which are a baddbmm: whole, bloom-7b1 has 908.65.
    glm = DecoderSizes(width=4096, layers=28, heads=32, kv_heads=2, head_dim=128, ff=13696, gated=True, vocab=65024)
    found = {
        "llama-7b": decoder(sizes("llama-7b"), seq=128).forward,
        "baichuan-7b": decoder(replace(sizes("llama-7b"), vocab=64000), seq=128).forward,
        "chatglm2-6b": decoder(glm, seq=128).forward,
        "pythia-1.4b": without(decoder(sizes("pythia-1.4b"), seq=128), "lm_head"),
        "pythia-12b": without(decoder(sizes("pythia-12b"), seq=128), "lm_head"),
        "bloom-1b7": without(decoder(sizes("bloom-1b7"), seq=128), "lm_head", "attention_scores"),
        "bloom-7b1": without(decoder(sizes("bloom-7b1"), seq=128), "lm_head", "attention_scores"),
    }
    assert {name: f"{flops / 2e9:.2f}" for name, flops in found.items()} == {
        "llama-7b": "850.00",
        "baichuan-7b": "866.78",
        "chatglm2-6b": "768.80",
        "pythia-1.4b": "156.23",
        "pythia-12b": "1455.59",
        "bloom-1b7": "155.42",
        "bloom-7b1": "775.11",
    }
    assert f"{closed_form(from_config(preset('bert-base')), seq=128).forward / 2e9:.3f}" == "11.174"
    assert f"{decoder(sizes('bloom-7b1'), seq=128).forward / 2e9:.2f}" == "908.65"


@pytest.mark.parametrize(
    ("width", "layers", "heads", "patch", "image", "gmacs"),
    [(768, 12, 12, 16, 224, "17.564"), (768, 12, 12, 32, 224, "4.409"), (1024, 24, 16, 32, 224, "15.378"),
     (768, 12, 12, 16, 384, "55.484")],
)  # fmt: skip
def test_torchvision(width, layers, heads, patch, image, gmacs):
    # torchvision's weight tables (vit_b_16, vit_b_32, vit_l_32, vit_b_16 at 384): labelled GFLOPS, and GMACs.
    block = Block(width=width, heads=heads, ff=4 * width)
    form = vision_transformer(VisionSizes(block=block, layers=layers, image=image, patch=patch, labels=1000))
    assert f"{form.forward / 2e9:.3f}" == gmacs


def test_scaling_book():
    # How to Scale Your Model, chapter 4, training FLOPs of a layer: gated MLP 18*B*T*D*F, QKVO 24*B*T*D*N*H, attention
    # 12*B*T^2*N*H; with F = 4*D attention passes the rest at T > 8*D.
    B, T, D, F, N, H = 2, 40, 16, 64, 4, 4
    shape = DecoderSizes(width=D, layers=1, heads=N, head_dim=H, ff=F, gated=True, vocab=1)
    step = {each.name: each.training_step for each in decoder(shape, batch=B, seq=T, logits=0)}
    assert step["mlp"] == 18 * B * T * D * F
    assert step["qkv"] + step["out"] == 24 * B * T * D * N * H
    assert step["attention_scores"] + step["attention_values"] == 12 * B * T**2 * N * H
    at, past = (parts(decoder(shape, seq=each, logits=0)) for each in (8 * D, 8 * D + 1))
    assert at[0] == at[1]
    assert past[1] > past[0]


@pytest.mark.parametrize(
    ("name", "printed"),
    [
        # Model cards and config files of the published weights, exactly.
        ("gpt2", 124_439_808),
        ("llama-7b", 6_738_415_616),
        ("llama-13b", 13_015_864_320),
        ("llama-33b", 32_528_943_616),
        ("llama-65b", 65_285_660_672),
        ("llama-2-70b", 68_976_648_192),
        ("llama-3-8b", 8_030_261_248),
        ("llama-3-70b", 70_553_706_496),
        ("llama-3.1-405b", 405_853_388_800),
        ("mistral-7b", 7_241_732_096),
        ("mixtral-8x7b", 46_702_792_704),
        ("bloom-7b1", 7_069_016_064),
        ("falcon-7b", 6_921_720_704),
        ("gpt-neox-20b", 20_554_567_680),
        ("qwen2.5-7b", 7_615_616_512),
        ("gemma-2b", 2_506_172_416),
        ("gpt-oss-20b", 20_914_757_184),
        ("deepseek-v3", 671_026_404_352),
        ("bert-base", 109_482_240),
        ("t5-small", 60_506_624),
        ("t5-base", 222_903_552),
        ("vit-b-16", 86_567_656),
        ("whisper-tiny", 37_760_640),
        ("whisper-large-v3", 1_543_490_560),
    ],
)
def test_parameters(name, printed):
    assert parameters(from_config(preset(name))) == printed


def test_pythia_body():
    # Biderman et al. 2023, table 1: Pythia-12B without its embedding has 11,327,027,200 parameters; with it and without
    # the head V*h + L*(12*h^2 + 13*h) + 2*h = 11,586,549,760.
    shape = sizes("pythia-12b")
    table = shape.vocab * shape.width
    assert parameters(shape) - table == 11_586_549_760
    assert parameters(shape) - 2 * table == 11_327_027_200


@pytest.mark.parametrize(
    ("name", "billions", "input_table"),
    [
        ("mixtral-8x7b", 12.9, True),
        ("deepseek-v3", 37, False),
        ("deepseek-v2", 21, True),
        ("deepseek-v2", 21, False),
        ("deepseek-v2-lite", 2.4, False),
    ],
)
def test_active_parameters(name, billions, input_table):
    # As the papers print them: Mixtral counts the input embedding, DeepSeek does not, or one cannot tell. Printed to
    # two digits, and cut (2.451 is 2.4): half a unit of the last digit is up to 2.5 %.
    shape = sizes(name)
    found = active_parameters(shape) - (0 if input_table else shape.vocab * shape.width)
    assert found / 1e9 == pytest.approx(billions, rel=0.025)


R1 = [
    ("llama-2-7b", 4, 8192, 573_738_911_268_864),
    ("llama-2-70b", 1, 4096, 606_878_878_924_800),
    ("llama-3-8b", 1, 8192, 158_140_695_838_720),
    ("llama-3-70b", 1, 8192, 1_314_637_949_698_048),
    ("falcon-7b", 1, 2048, 30_789_681_020_928),
    ("mixtral-8x7b", 1, 2048, 54_417_235_640_320),
    ("deepseek-v3", 1, 4096, 383_866_460_176_384),
]


@pytest.mark.parametrize(("name", "batch", "seq", "forward"), R1)
def test_counted_models(name, batch, seq, forward):
    # As counted op by op on the real models of transformers, at full size on meta tensors (tests/models).
    form = decoder(sizes(name), batch=batch, seq=seq)
    assert (form.forward, form.training_step) == (forward, 3 * forward)


def test_gpt_3():
    # The NeoX class at GPT-3's shape: an untied head over 51,200 words, no position table.
    shape = replace(gpt(12288, 96, 96, positions=0), tied=False)
    assert decoder(shape, seq=2048).forward == 734_851_724_476_416
    assert parameters(shape) == 175_219_826_688
