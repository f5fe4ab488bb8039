from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_flopguard.core.errors import SizeError, UnknownNameError
from pytest_flopguard.formulas.memory.activations import layer_activations, starcoder_layer, starcoder_lora_layer
from pytest_flopguard.formulas.memory.pipeline import edge_activations, output_tensors, stored_layers
from pytest_flopguard.formulas.memory.saved_tensors import checkpointed_layer

# Korthikanti et al. 2022, table 3: heads, width, microbatch; s = 2048.
MODELS = {
    "22B": {"heads": 64, "width": 6144, "batch": 4},
    "175B": {"heads": 96, "width": 12288, "batch": 1},
    "530B": {"heads": 128, "width": 20480, "batch": 1},
    "1T": {"heads": 160, "width": 25600, "batch": 1},
}
# Table 2 with t = 8 in MiB: tensor parallel, with sequence parallel, with selective, with both; full recompute.
# 22B, sbh = 2048*4*6144 = 48 Mi: 48*(10 + 24/8 + 5*64*2048/(6144*8)) = 48*(13 + 13.33) = 1264.
TABLE_2 = {
    "22B": (1264, 844, 624, 204, 96),
    "175B": (552, 342, 312, 102, 48),
    "530B": (840, 490, 520, 170, 80),
    "1T": (1050, 612.5, 650, 212.5, 100),
}
ROWS: tuple[dict[str, Any], ...] = (
    {},
    {"sequence_parallel": True},
    {"recompute": "selective"},
    {"recompute": "selective", "sequence_parallel": True},
    {"recompute": "full"},
)


@pytest.mark.parametrize("model", MODELS)
def test_table_2(model: str) -> None:
    found = [layer_activations(**MODELS[model], sequence=2048, tensor=8, **row).total for row in ROWS]
    assert found == [mib * 2**20 for mib in TABLE_2[model]]


def test_one_device() -> None:
    # sbh(34 + 5as/h) = 50,331,648 * (34 + 106.67) for the 22B model
    assert layer_activations(**MODELS["22B"], sequence=2048).total == 7_079_985_152


@pytest.mark.parametrize(("model", "share", "saved"), [("175B", 80, 70), ("530B", 64, 65)])
def test_what_selective_recompute_saves(model: str, share: int, saved: int) -> None:
    # Section 5: 5as/h is 80 for GPT-3 and 64 for MT-NLG, 70 % and 65 % of the activations (printed whole).
    sizes = {**MODELS[model], "sequence": 2048}
    none, selective = (layer_activations(**sizes, recompute=each).total for each in ("none", "selective"))
    sbh = 2048 * sizes["batch"] * sizes["width"]
    assert none - selective == share * sbh
    assert 100 * (none - selective) / none == pytest.approx(saved, abs=0.5)


def test_flash_keeps_no_scores_but_their_sums() -> None:
    sizes = {**MODELS["175B"], "sequence": 2048, "tensor": 8}
    flash = layer_activations(**sizes, flash=True)
    selective = layer_activations(**sizes, recompute="selective")
    # 4asb/t = 4 * 96 * 2048 / 8
    assert flash.total - selective.total == flash.by_name()["log_sum_exp"] == 98_304
    assert "attention_scores" not in flash.by_name()


def test_output_tensors_of_mt_nlg() -> None:
    # Appendix B prints "sbhp = 2.73 GB" for 530B: 2 bytes * 2048 * 20480 * 35 = 2.734 GiB.
    assert output_tensors(batch=1, sequence=2048, width=20480, pipeline=35) / 2**30 == pytest.approx(2.73, abs=0.005)


def test_the_layers_of_the_first_stage() -> None:
    assert stored_layers(96) == 96
    assert stored_layers(96, pipeline=8) == 96
    # 96 * (1 + 7/(8*3)) = 124
    assert stored_layers(96, pipeline=8, interleave=3) == 124
    with pytest.raises(SizeError, match=r"layers = 96: expected a multiple of pipeline stages \* interleave = 40"):
        stored_layers(96, pipeline=8, interleave=5)


def test_the_edges() -> None:
    # 22B, t = 8: sbh/t = 6,291,456 bytes of masks; 4sbh/t(1 + v/h) = 25,165,824 + 4*1024*51200 with one stage.
    sizes = {"batch": 4, "sequence": 2048, "width": 6144, "vocabulary": 51_200, "tensor": 8}
    assert edge_activations(**sizes).by_name() == {
        "embedding_dropout_masks": 6_291_456,
        "last_norm_and_head_inputs": 25_165_824,
        "logits": 209_715_200,
    }
    assert edge_activations(**sizes, pipeline=4).by_name() == {"embedding_dropout_masks": 4 * 6_291_456}


def test_extra_terms_are_more_than_the_paper_says() -> None:
    # Section 4.3 calls them "less than 0.01 %" for 22B with t = 8; they are 0.57 %.
    layers = 48 * layer_activations(**MODELS["22B"], sequence=2048, tensor=8, sequence_parallel=True).total
    edges = edge_activations(batch=4, sequence=2048, width=6144, vocabulary=51_200, tensor=8).total
    assert 100 * edges / layers == pytest.approx(0.57, abs=0.02)


def test_starcoder() -> None:
    # Its post: s2048, b4, h6144, a48, 40 layers: 206 GB in full, 34 GB with LoRA of rank 32. GB are 2^30 there.
    sizes = {"batch": 4, "sequence": 2048, "width": 6144, "heads": 48}
    assert 40 * starcoder_layer(**sizes) / 2**30 == pytest.approx(206, abs=0.5)
    assert 40 * starcoder_lora_layer(**sizes, rank=32) / 2**30 == pytest.approx(34, abs=0.5)


def test_recompute_in_the_scaling_book() -> None:
    # "How to scale your model", transformers: 64 layers, width 8192, 4M tokens at 2 bytes: 4.2 TB of checkpoints.
    kept = 64 * checkpointed_layer(batch=1, sequence=4_000_000, width=8192, dtype="bf16")
    assert kept.total / 1e12 == pytest.approx(4.2, abs=0.05)


shapes = st.fixed_dictionaries(
    {
        "batch": st.integers(1, 4),
        "sequence": st.integers(1, 8).map(lambda each: 16 * each),
        "width": st.integers(1, 4).map(lambda each: 32 * each),
        "heads": st.sampled_from([16, 32]),
    }
)


@given(shapes, st.sampled_from([1, 2, 4, 8, 16]))
def test_laws_of_sharding(shape: dict[str, int], tensor: int) -> None:
    plain, split, both = (
        layer_activations(**shape).total,
        layer_activations(**shape, tensor=tensor).total,
        layer_activations(**shape, tensor=tensor, sequence_parallel=True).total,
    )
    # With sequence parallelism the shards hold the whole exactly once; without it ten of sbh on every device.
    assert both * tensor == plain
    sbh = shape["sequence"] * shape["batch"] * shape["width"]
    assert split * tensor == plain + 10 * sbh * (tensor - 1)
    assert layer_activations(**shape, recompute="full").total <= plain


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"heads": 5}, "width = 64: expected a multiple of heads = 5"),
        ({"tensor": 3}, "heads = 8: expected a multiple of tensor parallel size = 3"),
        ({"tensor": 8, "sequence": 12, "sequence_parallel": True}, "sequence = 12: expected a multiple of"),
        ({"batch": 0}, "batch = 0"),
        ({"sequence": 2.0}, "sequence = 2.0"),
    ],
)
def test_bad_sizes(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(SizeError, match=told):
        layer_activations(**{"batch": 1, "sequence": 16, "width": 64, "heads": 8, **changes})


def test_an_unknown_recompute_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown recompute 'selectiv'.*did you mean 'selective'"):
        layer_activations(batch=1, sequence=16, width=64, heads=8, recompute="selectiv")
