"""Estimates by their Python API: laws that hold for every model, and what is unknown with its reason."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_flopguard.core.errors import SizeError, UnknownNameError
from pytest_flopguard.formulas.architectures.families import from_config
from pytest_flopguard.formulas.architectures.presets import PRESETS
from pytest_flopguard.formulas.estimates.asked import Machine, Subject, Workload
from pytest_flopguard.formulas.estimates.context import context_cost
from pytest_flopguard.formulas.estimates.estimate import estimate
from pytest_flopguard.formulas.hardware.datasheets import gpu

H100 = gpu("h100")
GPT2 = Subject(name="gpt2", sizes=from_config(PRESETS["gpt2"]))
LLAMA = Subject(name="llama-2-7b", sizes=from_config(PRESETS["llama-2-7b"]))


def values(subject: Subject, work: Workload, machine: Machine | None = None) -> dict[str, Any]:
    return {name: each.value for name, each in estimate(subject, work, machine).figures.items()}


def subject(name: str) -> Subject:
    return Subject(name=name, sizes=from_config(PRESETS[name]))


@pytest.mark.parametrize("name", sorted(PRESETS))
@pytest.mark.parametrize("train", [False, True])
def test_every_known_model(name: str, train: bool) -> None:
    model = subject(name)
    work = Workload(batch=2, seq=1 if model.reads_images else 32, train=train)
    found = estimate(model, work, Machine(gpu=H100, gpus=2, mfu=0.5))
    assert found.form is not None
    total = found.form.training_step if train else found.form.forward
    assert found.figures["flops.total"].value == total
    assert found.figures["parameters"].value == sum(found.parameter_terms.values())
    for figure in found.figures.values():
        assert figure.value is not None or figure.how
        assert figure.unit not in ("FLOP", "B") or type(figure.value) is int
    memory = {each: found.figures[f"memory.{each}"] for each in ("weights", "gradients", "optimizer", "activations")}
    memory["kv_cache"] = found.figures["memory.kv_cache"]
    if all(each.value is not None or not each.applies for each in memory.values()):
        assert found.figures["memory.total"].value == sum(each.value or 0 for each in memory.values())
    else:
        assert found.figures["memory.total"].value is None


@given(batch=st.integers(1, 64), seq=st.integers(1, 4096), mfu=st.floats(0.01, 1.0), gpus=st.integers(1, 10_000))
@settings(deadline=None)
def test_no_run_is_faster_than_its_bound(batch: int, seq: int, mfu: float, gpus: int) -> None:
    found = values(LLAMA, Workload(batch=batch, seq=seq, train=True), Machine(gpu=H100, gpus=gpus, mfu=mfu))
    assert found["time.seconds"] >= found["time.at_least_seconds"] * (1 - 1e-12)
    assert found["mfu"] == pytest.approx(mfu)
    assert found["flops.total"] == 3 * found["flops.forward"]


@given(batch=st.integers(1, 8), seq=st.integers(1, 512))
@settings(deadline=None)
def test_decode_steps_sum_to_a_causal_forward_pass(batch: int, seq: int) -> None:
    """Reading s tokens at once costs what reading them one by one does, if causal attention is credited."""
    whole = values(GPT2, Workload(batch=batch, seq=seq, attention="causal"))["flops.total"]
    last = values(GPT2, Workload(batch=batch, seq=seq, decode=True, attention="causal"))["flops.total"]
    before = values(GPT2, Workload(batch=batch, seq=seq - 1, attention="causal"))["flops.total"] if seq > 1 else 0
    assert before + last == whole


def test_activations_per_gpu_fall_with_the_copies_and_with_the_parts() -> None:
    work = Workload(batch=8, seq=1024, train=True)
    whole = values(GPT2, work)["memory.activations"]
    copies = values(GPT2, work, Machine(gpu=H100, gpus=8, zero=0))["memory.per_gpu.activations"]
    assert copies * 8 == whole
    # 12 heads over 4 devices, all of sbh(34 + 5as/h) and of the edges divided.
    parts = values(GPT2, work, Machine(gpu=H100, gpus=4, tensor=4, sequence_parallel=True))[
        "memory.per_gpu.activations"
    ]
    assert parts * 4 == whole
    uneven = estimate(GPT2, work, Machine(gpu=H100, gpus=8, tensor=8)).figures["memory.per_gpu.activations"]
    assert uneven.value is None
    assert "heads = 12: expected a multiple of tensor parallel size = 8" in uneven.how
    staged = estimate(GPT2, work, Machine(gpu=H100, gpus=4, pipeline=4)).figures
    assert staged["memory.per_gpu.activations"].value is None
    assert staged["memory.per_gpu.weights"].value == -(-124_439_808 // 4) * 2


@pytest.mark.parametrize(
    ("name", "dtype", "known"),
    [
        ("llama-3-8b", "float32", True),
        ("llama-3-8b", "float8", False),
        ("gpt2", "float16", True),
        ("gpt2", "float32", False),
        ("starcoder", "bfloat16", False),
        ("mixtral-8x7b", "bfloat16", True),
        ("qwen3-8b", "bfloat16", True),
        ("qwen3-30b-a3b", "bfloat16", False),
        ("deepseek-v3", "bfloat16", False),
        ("gemma-2-2b", "bfloat16", False),
        ("bert-base", "bfloat16", False),
    ],
)
def test_activations_are_told_where_there_is_a_formula(name: str, dtype: str, known: bool) -> None:
    work = Workload(seq=64, train=True, dtype=dtype, recipe="mixed-adamw")
    assert (values(subject(name), work)["memory.activations"] is not None) is known


def test_a_window_shorter_than_the_sequence_has_no_formula() -> None:
    mistral = subject("mistral-7b")
    assert values(mistral, Workload(seq=4096, train=True))["memory.activations"] is not None
    found = estimate(mistral, Workload(seq=4097, train=True)).figures["memory.activations"]
    assert found.value is None
    assert "windows shorter than the sequence" in found.how


def test_caches_that_cannot_be_split() -> None:
    work = Workload(batch=4, seq=64)
    held = estimate(LLAMA, work, Machine(gpu=H100, gpus=3, tensor=3)).figures["memory.per_gpu.kv_cache"]
    assert held.value is None
    assert "kv_heads = 32" in held.how
    staged = estimate(LLAMA, work, Machine(gpu=H100, gpus=2, pipeline=2)).figures["memory.per_gpu.kv_cache"]
    assert staged.value is None


def test_an_image_is_no_token() -> None:
    found = values(subject("vit-b-16"), Workload(batch=8), Machine(gpu=H100, seconds=0.01))
    # 8 * 35,127,656,448: torchvision prints 17.564 GMACs an image.
    assert found["flops.total"] == 281_021_251_584
    assert [found[name] for name in ("flops.per_token", "flops.by_rule", "mfu_by_rule", "mfu_by_palm")] == [None] * 4
    assert found["tokens_per_second"] is None
    assert found["mfu"] > 0


def test_a_training_run_with_recompute() -> None:
    work = Workload(seq=1024, train=True, recompute="full", tokens=1_000_000)
    found = values(GPT2, work, Machine(gpu=H100, gpu_hours=1.0))
    plain = values(GPT2, replace(work, recompute="none"), Machine(gpu=H100, gpu_hours=1.0))
    # 1,000,000 tokens are 976.5625 sequences; a token's FLOPs are whole.
    assert found["run.flops"] * 1024 == found["flops.total"] * 1_000_000
    assert found["mfu"] == plain["mfu"]
    assert found["hfu"] > found["mfu"]
    assert found["time.seconds"] == 3600.0
    assert found["run.pf_days"] == pytest.approx(found["run.flops"] / 8.64e19)


def test_selective_recompute_is_scores_and_values() -> None:
    found = estimate(GPT2, Workload(seq=64, train=True, recompute="selective"))
    assert found.form is not None
    assert found.form.recompute == 12 * 4 * 64 * 64 * 768


def test_a_count_alone() -> None:
    count = Subject(name="7B", count=7 * 10**9)
    found = values(count, Workload(batch=8, train=True, tokens=10**12), Machine(gpu=H100, gpus=8, mfu=0.5, zero=1))
    assert found["run.flops"] == found["run.by_rule"] == 42 * 10**21
    assert found["flops.backward"] == 2 * found["flops.forward"] == 8 * 28 * 10**9
    assert found["mfu_by_palm"] is None
    assert estimate(count, Workload()).parameter_terms == {}


@pytest.mark.parametrize(
    "make",
    [
        lambda: Subject(name="none"),
        lambda: Workload(batch=0),
        lambda: Workload(seq=1.5),  # type: ignore[arg-type]
        lambda: Workload(attention="sparse"),
        lambda: Workload(train=True, decode=True),
        lambda: Workload(tokens=5),
        lambda: Workload(train=True, dtype="int8"),
        lambda: Workload(train=True, dtype="float4"),
        lambda: Workload(train=True, dtype="float64"),
        lambda: Machine(gpu=H100, gpus=0),
        lambda: Machine(gpu=H100, mfu=1.5),
        lambda: Machine(gpu=H100, seconds=0.0),
        lambda: Machine(gpu=H100, gpu_hours=-1.0),
        lambda: Machine(gpu=H100, zero=4),
        lambda: Machine(gpu=H100, gpus=6, tensor=4),
        lambda: estimate(Subject(name="1", count=1), Workload(train=True, recompute="selective")),
        lambda: Machine(gpu=H100, gpus=4, sequence_parallel=True),
        lambda: estimate(subject("whisper-tiny"), Workload(seq=4, train=True, tokens=8)),
        lambda: estimate(GPT2, Workload(batch=3, seq=4), Machine(gpu=H100, gpus=2, zero=0)),
        lambda: context_cost(Subject(name="1", count=1), 8, "dense"),
        lambda: context_cost(subject("vit-b-16"), 8, "dense"),
    ],
)
def test_sizes_that_cannot_be(make: Any) -> None:
    with pytest.raises(SizeError, match=r"expected .*\[bad-size\]$"):
        make()


@pytest.mark.parametrize(
    "make",
    [
        lambda: Workload(dtype="bf17"),
        lambda: Workload(recipe="mixed"),
        lambda: Workload(optimizer="adm"),
        lambda: Workload(recompute="some"),
    ],
)
def test_names_that_no_table_has(make: Any) -> None:
    with pytest.raises(UnknownNameError):
        make()


def test_windows_bound_what_attention_adds() -> None:
    """Mistral's window of 4096: causal attention costs a token no more at 32K than 4096 keys do."""
    mistral = subject("mistral-7b")
    near, far = (context_cost(mistral, seq, "causal") for seq in (8192, 32_768))
    assert far.overhead < 2 * near.overhead
    assert context_cost(mistral, 32_768, "dense").overhead == 4 * context_cost(mistral, 8192, "dense").overhead
    assert far.total == far.core + far.layers + far.edges
    assert far.share < 1
    assert far.per_token * far.seq == far.total
