"""flopguard estimate: every number against a hand calculation or a printed one, and every refusal."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pytest_flopguard.formulas.architectures.presets import PRESETS
from pytest_flopguard.formulas.hardware.datasheets import gpu

Ask = Callable[..., dict[str, Any]]
Told = Callable[..., str]
Refused = Callable[..., list[str]]
_UNEVEN = {**PRESETS["llama-7b"], "num_attention_heads": 30, "num_key_value_heads": 30}
H100 = gpu("h100").peak("bf16")


def leaves(document: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in document.items():
        found |= leaves(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return found


def test_a_forward_pass(ask: Ask) -> None:
    found = ask("estimate", "gpt2", "--seq", "1024")
    # nanoGPT's transformer_sizing.ipynb prints both.
    assert found["parameters"] == 124_439_808
    assert found["flops"]["forward"] == found["flops"]["total"] == 291_648_307_200
    # 2 * 124,439,808 * 1024
    assert found["flops"]["by_rule"] == 254_852_726_784
    # 291,648,307,200 / 1024
    assert found["flops"]["per_token"] == 284_812_800
    # Of the 291,648,307,200 FLOPs, 12 layers * 4 * 1024^2 * 768 = 38,654,705,664 are attention; the rest is 2 * 1024
    # times the matrices' elements.
    assert found["matrix_parameters"] == 123_532_032
    assert found["flops"]["backward"] is None
    assert found["reasons"]["flops.backward"].startswith("no --train")


def test_a_training_step(ask: Ask) -> None:
    found = ask("estimate", "gpt2", "--seq", "1024", "--train")
    # nanoGPT prints the total.
    assert found["flops"]["total"] == 874_944_921_600
    assert found["flops"]["backward"] == 2 * found["flops"]["forward"]
    memory = found["memory"]
    n = 124_439_808
    assert (memory["weights"], memory["gradients"], memory["optimizer"]) == (2 * n, 2 * n, 12 * n)
    # s b h (34 + 5 a s / h) = 1024 * 768 * (34 + 80) = 89,653,248 a layer.
    # Around the layers s b h of embedding masks, 4 s b h and 4 s b v.
    edges = 1024 * 768 + 4 * 1024 * 768 + 4 * 1024 * 50_257
    assert memory["activations"] == 12 * 89_653_248 + edges
    assert memory["kv_cache"] is None
    assert memory["total"] == 16 * n + memory["activations"]


def test_terms_sum(ask: Ask) -> None:
    found = ask("estimate", "deepseek-v2-lite", "--seq", "512", "--batch", "2", "--train")
    terms = found["flops"]["terms"]
    assert sum(each["forward"] for each in terms) == found["flops"]["forward"]
    assert sum(each["backward"] for each in terms) == found["flops"]["backward"]
    assert all(each["each"] * each["times"] == each["forward"] for each in terms)
    assert {"name", "equation", "each", "times", "forward", "backward", "recompute"} == set(terms[0])
    assert sum(found["parameter_terms"].values()) == found["parameters"]


@pytest.mark.parametrize("model", sorted(PRESETS))
def test_every_known_model_can_be_estimated(model: str, ask: Ask) -> None:
    length = [] if model.startswith("vit") else ["--seq", "64"]
    found = ask("estimate", model, *length, "--train", "--gpu", "h100", "--mfu", "0.5")
    for name in ("parameters", "flops", "memory", "time", "mfu"):
        assert found[name]
    for name in ("forward", "backward", "total", "terms"):
        assert found["flops"][name]
    for name in ("weights", "gradients", "optimizer", "activations", "kv_cache", "total"):
        assert name in found["memory"]
    assert found["mfu"] == pytest.approx(0.5)
    found_or_told = leaves({name: found[name] for name in found if name not in ("asked", "how", "reasons", "units")})
    missing = {name for name, value in found_or_told.items() if value is None}
    assert missing == {name for name in found["reasons"] if found["reasons"][name]}
    exact = [name for name in found["units"] if found["units"][name] in ("FLOP", "B")]
    assert all(type(found_or_told[name]) is int for name in exact)


def test_activations_without_a_formula_are_unknown_and_so_is_the_total(ask: Ask) -> None:
    memory = ask("estimate", "deepseek-v2-lite", "--seq", "64", "--train")["memory"]
    assert memory["activations"] is None
    assert memory["total"] is None
    assert memory["weights"] == 2 * 15_706_484_224


def test_a_decode_step_is_the_last_of_s_tokens(ask: Ask) -> None:
    found = ask("estimate", "llama-2-7b", "--seq", "4096", "--decode", "--batch", "2")
    # Of each sequence 2 * 6,607,077,376 for the matrices and 4 * 32 layers * 4096 keys * 4096 for attention.
    assert found["flops"]["total"] == 2 * (2 * 6_607_077_376 + 4 * 32 * 4096 * 4096)
    # 524,288 bytes a token: 2 * 32 layers * 4096 * 2 bytes.
    assert found["memory"]["kv_cache"] == 2 * 4096 * 524_288
    assert found["memory"]["kv_cache_per_sequence"] == 4096 * 524_288


def test_causal_attention_halves_scores_and_values(ask: Ask) -> None:
    found = {
        kind: {each["name"]: each["forward"] for each in ask_terms}
        for kind in ("dense", "causal")
        for ask_terms in [ask("estimate", "llama-7b", "--seq", "1024", "--attention", kind)["flops"]["terms"]]
    }
    assert found["causal"]["mlp"] == found["dense"]["mlp"]
    # s * (s + 1) / 2 pairs instead of s * s
    assert found["causal"]["attention_scores"] * 2 * 1024 == found["dense"]["attention_scores"] * 1025


def test_llama_3_70b_over_its_gpu_hours(ask: Ask) -> None:
    """Analysis of Llama 3, question 1: 15T tokens in 6.4M H100-hours are an MFU of 27.9, 30.0 and 32.1 %."""
    asked = ["estimate", "llama-3-70b", "--seq", "8192", "--tokens", "15T", "--gpu", "h100", "--gpu-hours", "6.4M"]
    dense, causal = (ask(*asked, "--attention", kind) for kind in ("dense", "causal"))
    assert f"{dense['mfu_by_rule']:.1%}" == "27.9%"
    assert f"{causal['mfu_by_palm']:.1%}" == "30.0%"
    assert f"{dense['mfu_by_palm']:.1%}" == "32.1%"
    # Without the embedding, which is looked up and not multiplied: 1.05 of 70.55 B parameters less.
    assert f"{causal['mfu']:.1%}" == "29.6%"
    assert f"{dense['mfu']:.1%}" == "31.7%"
    # 6 * 70,553,706,496 * 15e12
    assert dense["run"]["by_rule"] == 6_349_833_584_640_000_000_000_000
    assert dense["time"]["gpu_hours"] == pytest.approx(6.4e6)


def test_where_7b_comes_from(ask: Ask) -> None:
    """Question 2: 6.738 B parameters, 13.5 GFLOP forward and 40.4 in training per token, 13.2 of the matrices."""
    found = ask("estimate", "llama-2-7b", "--seq", "1", "--train")
    assert found["parameters"] == 6_738_415_616
    assert found["flops"]["by_rule"] == 6 * 6_738_415_616 == 40_430_493_696
    assert ask("estimate", "llama-2-7b", "--seq", "1")["flops"]["by_rule"] == 13_476_831_232
    assert 2 * found["matrix_parameters"] == 13_214_154_752


def test_sixteen_prompts_on_eight_a800(ask: Ask) -> None:
    """Question 3: 9.13e15 FLOPs, 3.66 s at the full peak, 4.57 s at 80 %."""
    asked = ["estimate", "llama-2-70b", "--batch", "16", "--seq", "4000", "--attention", "causal"]
    found = ask(*asked, "--gpu", "a800", "--gpus", "8", "--mfu", "80%")
    assert found["flops"]["total"] == pytest.approx(9.13e15, rel=0.0005)
    assert found["time"]["at_peak_seconds"] == pytest.approx(3.66, abs=0.005)
    # Nobody needs the logits of 3,999 of 4,000 positions, nor most of the last of 80 layers: 1.5 % less.
    assert 0.98 < found["time"]["at_least_seconds"] / found["time"]["at_peak_seconds"] < 0.99
    assert found["time"]["seconds"] == pytest.approx(4.57, abs=0.005)
    assert found["time"]["bound"] == "compute"


def test_requests_beside_the_weights_on_two_a800(ask: Ask) -> None:
    """Question 4: 1.31 GB a request of 4000 tokens, 22 GB left, about 16 requests."""
    found = ask("estimate", "llama-2-70b", "--seq", "4000", "--gpu", "a800", "--gpus", "2")["memory"]
    assert found["kv_cache_per_sequence"] == 4000 * 327_680 == 1_310_720_000
    # (160e9 - 137,953,296,384) // 1,310,720,000
    assert found["requests_that_fit"] == 16
    alone = ask("estimate", "llama-2-70b", "--seq", "4000", "--gpu", "a800")
    assert alone["memory"]["requests_that_fit"] is None
    assert "the weights alone take 137,953,296,384 B" in alone["reasons"]["memory.requests_that_fit"]


def test_gpt_4_by_its_number_of_parameters(ask: Ask) -> None:
    """A guide to scaling laws: 98.67 days on 25,000 A100, which takes sparse peaks and all of 1.7T parameters."""
    asked = ["estimate", "1.7T", "--tokens", "13T", "--gpu", "a100", "--gpus", "25000", "--mfu", "100%"]
    days = {kind: ask(*asked, *flag)["time"]["seconds"] / 86_400 for kind, flag in (("sparse", ["--sparse"]), ("", []))}
    # Printed from 1.33e26 FLOPs; 6 * 1.7e12 * 13e12 is 1.326e26: half a percent.
    assert days["sparse"] == pytest.approx(98.67, rel=0.005)
    assert days[""] == pytest.approx(197, abs=0.5)
    active = ["estimate", "280B", "--tokens", "13T", "--gpu", "a100", "--gpus", "25000", "--mfu", "34%"]
    assert ask(*active)["time"]["seconds"] / 86_400 == pytest.approx(95, abs=0.5)


def test_a_number_of_parameters_says_nothing_of_attention(ask: Ask) -> None:
    found = ask("estimate", "7B", "--batch", "2", "--seq", "10")
    assert found["flops"]["forward"] == 2 * 7_000_000_000 * 20
    assert found["flops"]["terms"] is None
    assert found["memory"]["kv_cache"] is None
    assert "number of parameters" in found["reasons"]["memory.kv_cache"]


def test_time_from_a_share_of_the_peak_and_back(ask: Ask) -> None:
    asked = ["estimate", "llama-3-8b", "--seq", "8192", "--batch", "8", "--train", "--gpu", "h100", "--gpus", "16"]
    expected = ask(*asked, "--mfu", "0.4")
    # 8 sequences * 474,422,087,516,160 FLOPs / (16 * 989.4e12 * 0.4)
    assert expected["time"]["seconds"] == pytest.approx(8 * 474_422_087_516_160 / (16 * H100 * 0.4))
    measured = ask(*asked, "--seconds", str(expected["time"]["seconds"]))
    assert measured["mfu"] == pytest.approx(0.4)
    assert measured["tokens_per_second"] == pytest.approx(8 * 8192 / expected["time"]["seconds"])


def test_without_a_share_time_is_a_bound_only(ask: Ask) -> None:
    found = ask("estimate", "llama-2-7b", "--seq", "2048", "--decode", "--gpu", "h100")
    # Memory bound: the matrices without the embedding and 2047 tokens of cache, once over 3.35e12 bytes/s.
    moved = 2 * (6_738_415_616 - 32_000 * 4096) + 2047 * 524_288
    assert found["time"]["at_peak_seconds"] == pytest.approx(moved / 3.35e12)
    # A chip may keep something of one step for the next, 256 MiB at most.
    assert found["time"]["at_least_seconds"] == pytest.approx((moved - 2**28) / 3.35e12)
    assert found["time"]["bound"] == "memory"
    assert found["time"]["seconds"] is None
    assert found["mfu"] is None
    assert "--mfu" in found["reasons"]["mfu"]


def test_recompute_is_in_the_total_and_in_hfu_only(ask: Ask) -> None:
    asked = ["estimate", "gpt2", "--seq", "1024", "--train", "--gpu", "a100", "--seconds", "1"]
    none, selective, full = (ask(*asked, "--recompute", kind) for kind in ("none", "selective", "full"))
    attention = 12 * 4 * 1024 * 1024 * 768
    layers = 291_648_307_200 - 2 * 1024 * 768 * 50_257
    assert selective["flops"]["recompute"] == attention
    assert full["flops"]["recompute"] == layers
    assert full["flops"]["total"] == 874_944_921_600 + layers
    assert none["mfu"] == selective["mfu"] == full["mfu"]
    assert none["hfu"] is None
    assert full["hfu"] / full["mfu"] == pytest.approx((874_944_921_600 + layers) / 874_944_921_600)


def test_a_layout_tells_what_each_gpu_holds(ask: Ask) -> None:
    asked = ["estimate", "llama-2-7b", "--seq", "2048", "--batch", "8", "--train", "--gpu", "h100", "--gpus", "8"]
    n = 6_738_415_616
    held = ask(*asked, "--zero", "3")["memory"]["per_gpu"]
    # ZeRO table 1: 16 bytes a parameter over 8 devices.
    assert held["weights"] + held["gradients"] + held["optimizer"] == 16 * n // 8
    split = ask(*asked, "--tensor", "8")["memory"]
    assert split["per_gpu"]["weights"] == 2 * n // 8
    assert split["per_gpu"]["activations"] < split["activations"]
    assert ask(*asked)["memory"]["per_gpu"] is None
    served = ask("estimate", "llama-2-70b", "--seq", "4000", "--gpu", "a800", "--gpus", "8", "--tensor", "8")
    # One of 8 key heads on each device.
    assert served["memory"]["per_gpu"]["kv_cache"] == 1_310_720_000 // 8


def test_recipes_and_optimizers_by_name(ask: Ask) -> None:
    asked = ["estimate", "gpt2", "--seq", "64", "--train"]
    n = 124_439_808
    held = ask(*asked, "--recipe", "megatron-adamw")["memory"]
    assert held["weights"] + held["gradients"] + held["optimizer"] == 18 * n
    held = ask(*asked, "--optimizer", "sgd-momentum", "--dtype", "float32")["memory"]
    assert (held["weights"], held["gradients"], held["optimizer"]) == (4 * n, 4 * n, 4 * n)
    held = ask(*asked, "--dtype", "fp32")["memory"]
    assert (held["weights"], held["gradients"], held["optimizer"]) == (4 * n, 4 * n, 8 * n)


def test_four_bits_are_half_a_byte(ask: Ask) -> None:
    assert ask("estimate", "llama-2-7b", "--seq", "1", "--dtype", "int4")["memory"]["weights"] == 6_738_415_616 // 2


def test_a_config_json(ask: Ask, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**PRESETS["llama-2-7b"], "torch_dtype": "float16"}))
    by_file, by_folder, by_name = (
        ask("estimate", model, "--seq", "128") for model in (str(path), str(tmp_path), "llama-2-7b")
    )
    assert by_file["flops"] == by_folder["flops"] == by_name["flops"]


def test_the_tables_show_the_same_numbers(told: Told) -> None:
    text = told("estimate", "llama-2-7b", "--seq", "4096", "--gpu", "h100", "--mfu", "0.5")
    for part in (
        "llama-2-7b, forward pass",
        "6,738,415,616",
        "2*B*s*3*h*f",
        "13,476,831,232 B",
        "kv cache",
        "lower bound for every implementation: at the full peak of compute",
        "estimate, not a bound: the FLOPs of this forward pass, at the full peak of compute",
        "at 50.00% of the peak",
        "50.0%",
    ):
        assert part in text
    assert "backward" not in text
    # The reason why nothing is known per GPU stands there once.
    assert text.count("--tensor, --pipeline or --zero") == 1


@pytest.mark.parametrize(
    ("arguments", "lines"),
    [
        (["lama-7b", "--seq", "1"], ["no closed form for the architecture 'lama-7b'; did you mean 'llama-7b'?"]),
        (["gpt2"], ["--seq = None: expected the tokens of each sequence [bad-value]"]),
        (["gpt2", "--seq", "0"], ["--seq = 0: expected a whole number, 1 or more [bad-size]"]),
        (["gpt2", "--seq", "-5"], ["--seq = '-5': an amount cannot be negative [bad-amount]"]),
        (["gpt2", "--seq", "1.5"], ["--seq = '1.5': not a whole number"]),
        (["gpt2", "--seq", "8", "--batch", "0"], ["--batch = 0: expected a whole number, 1 or more"]),
        (["gpt2", "--seq", "8", "--attention", "sparse"], ["attention = 'sparse': expected 'dense' or 'causal'"]),
        (["gpt2", "--seq", "8", "--dtype", "bf17"], ["unknown dtype 'bf17'; known are", "did you mean 'bf16'?"]),
        (["gpt2", "--seq", "8", "--dtype", "tf32"], ["unknown storage dtype 'tf32'"]),
        (["gpt2", "--seq", "8", "--gpu", "h10"], ["unknown GPU 'h10'", "did you mean 'h100'?"]),
        (["gpt2", "--seq", "8", "--gpu", "t4"], ["unknown dtype with a dense peak on t4 'bfloat16'"]),
        (["gpt2", "--seq", "8", "--gpus", "8"], ["--gpus = '8': expected --gpu beside it"]),
        (["gpt2", "--seq", "8", "--sparse"], ["--sparse = True: expected --gpu beside it"]),
        (["gpt2", "--seq", "8", "--zero", "1", "--gpu", "h100"], ["--zero = '1': expected --train beside it"]),
        (["gpt2", "--seq", "8", "--recompute", "full"], ["--recompute = 'full': expected --train beside it"]),
        (["gpt2", "--seq", "8", "--train", "--recompute", "al"], ["unknown recompute 'al'; known are full, none"]),
        (["gpt2", "--seq", "8", "--train", "--recipe", "mixed"], ["unknown training recipe 'mixed'; known are bf16"]),
        (["gpt2", "--seq", "8", "--train", "--optimizer", "adm"], ["unknown optimizer 'adm'", "mean 'adam'?"]),
        (["gpt2", "--seq", "8", "--train", "--dtype", "int8"], ["dtype = 'int8': expected a floating dtype"]),
        (["gpt2", "--seq", "8", "--train", "--dtype", "fp64"], ["recipe = None: expected a recipe or an optimizer"]),
        (["gpt2", "--seq", "8", "--train", "--decode"], ["decode = True: expected no decode step where there is"]),
        (["gpt2", "--seq", "8", "--gpu", "h100", "--mfu", "40"], ["--mfu = 40.0: expected a share above 0"]),
        (["gpt2", "--seq", "8", "--gpu", "h100", "--mfu", "nan"], ["--mfu = nan: expected a number above 0"]),
        (["gpt2", "--seq", "8", "--gpu", "h100", "--seconds", "x"], ["--seconds = 'x': expected a number"]),
        (
            ["gpt2", "--seq", "8", "--gpu", "h100", "--mfu", "1", "--seconds", "2"],
            ["--mfu = '1': expected only one of --mfu, --seconds"],
        ),
        (
            ["gpt2", "--seq", "8", "--train", "--gpu", "h100", "--gpus", "6", "--tensor", "4"],
            ["gpus = 6: expected a multiple of tensor * pipeline = 4"],
        ),
        (
            ["gpt2", "--seq", "8", "--batch", "3", "--train", "--gpu", "h100", "--gpus", "2", "--zero", "1"],
            ["batch = 3: expected a multiple of data-parallel copies = 2"],
        ),
        (["gpt2", "--seq", "8", "--train", "--gpu", "h100", "--zero", "4"], ["zero = 4: expected one of 0, 1, 2, 3"]),
        (["7B", "--train", "--recompute", "selective"], ["recompute = 'selective': expected 'none' or 'full', as a"]),
        (["gpt2", "--seq", "1025"], ["seq = 1025: expected at most 1024: gpt2 has a table of 1024 positions"]),
        (["7Q"], ["MODEL = '7Q': 'Q' is no unit of a count"]),
        (["vit-b-16", "--seq", "4"], ["seq = 4: expected 1: vit reads whole images"]),
        (["vit-b-16", "--tokens", "1T"], ["tokens = 1000000000000: expected none: a run over images or sound"]),
        (["bert-base", "--seq", "8", "--decode"], ["past = 7: expected 0: bert has no cache"]),
        (["gone.json", "--seq", "8"], ["the config of 'gone.json': cannot be read: No such file or directory"]),
    ],
)
def test_wrong_input_is_one_clear_error(arguments: list[str], lines: list[str], refused: Refused) -> None:
    found = refused("estimate", *arguments)
    assert len(found) == 1
    assert [each for each in lines if each not in found[0]] == []
    assert found[0].endswith("]")


def test_all_errors_at_once(refused: Refused) -> None:
    found = refused(
        *("estimate", "gpt3", "--batch", "0", "--seq", "x", "--dtype", "bf17"),
        *("--gpu", "z9", "--mfu", "7", "--attention", "none"),
    )
    codes = [each.rpartition("[")[2].rstrip("]") for each in found]
    assert codes == [
        "unknown-architecture", "bad-size", "bad-amount", "bad-size", "unknown-name", "unknown-name", "bad-size",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("{", "not valid JSON"),
        ("[1]", "expected a table of fields, not list"),
        ("{}", "no closed form for the architecture ''"),
        ('{"model_type": "lama"}', "did you mean 'llama'?"),
        ('{"model_type": "llama", "hidden_size": 8}', "is missing"),
        (json.dumps({**PRESETS["llama-7b"], "hidden_size": "big"}), "hidden_size = 'big': expected a whole number"),
        (json.dumps(_UNEVEN), "width = 4096: expected a multiple of"),
        (json.dumps({**PRESETS["llama-7b"], "num_key_value_heads": 5}), "heads = 32: expected a multiple of kv_heads"),
    ],
)
def test_a_wrong_config_is_one_clear_error(content: str, problem: str, refused: Refused, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(content)
    found = refused("estimate", str(path), "--seq", "8")
    assert len(found) == 1
    assert problem in found[0]


def test_a_run_that_leaves_a_fraction_of_a_flop_is_refused(refused: Refused, ask: Ask) -> None:
    # Mistral's window: a token's causal share of s * w - w * (w - 1) / 2 pairs is not whole at s = 6000.
    asked = ["estimate", "mistral-7b", "--seq", "6000", "--attention", "causal"]
    assert ask(*asked)["flops"]["per_token"] is None
    assert "expected a multiple of the 6000 tokens of a step" in refused(*asked, "--tokens", "10007")[0]
    assert ask(*asked, "--tokens", "6000000")["run"]["flops"]
