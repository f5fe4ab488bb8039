"""The truths of the bake-off are what we count, on programs that cost little; the whole list runs by `make bakeoff`."""

from __future__ import annotations

import pytest
import torch
from torch.torch_version import TorchVersion

# One of each kind: products, convolutions, attention, recurrent layers, programs in which work hides, a model.
CHEAP = [
    "nn.Linear",
    "nn.Linear, frozen",
    "addbmm",
    "mv",
    "einsum, ij,jk,kl->il",
    "nn.Bilinear",
    "complex matmul",
    "nn.Embedding",
    "nn.Conv2d, depthwise",
    "nn.ConvTranspose2d, 4 groups",
    "FFT convolution",
    "SDPA",
    "SDPA, grouped-query heads",
    "nn.MultiheadAttention, eval, no_grad",
    "nn.TransformerEncoderLayer, eval, no_grad",
    "nn.LSTM",
    "nn.LSTM, packed sequences",
    "nn.GRU",
    "checkpoint, reentrant",
    "checkpoint, non-reentrant",
    "autograd.Function",
    "custom op, with a formula",
    "gradient penalty (double backward)",
    "U-Net",
]


@pytest.fixture(scope="session")
def cases(benchmarks):
    from cases import CASES

    return {each.name: each for each in CASES}


@pytest.fixture(scope="session")
def count(benchmarks):
    from peers import PEERS

    return {each.name: each.count for each in PEERS}


@pytest.mark.parametrize("name", CHEAP)
def test_our_count_is_the_truth(cases, count, name):
    case = cases[name]
    assert count["flopguard"](case, False) == case.forward
    if case.backward is not None:
        assert count["flopguard"](case, True) == case.forward + case.backward


def test_what_nobody_gave_a_formula_for_is_unknown(cases, count):
    assert count["flopguard"](cases["custom op, no formula"], False) is None


def test_peers_are_asked_the_same(cases, count):
    # Where torch's own counter is right, it agrees with the truth; where it is known to be wrong, it does not.
    assert count["FlopCounterMode"](cases["nn.Linear"], True) == 3 * 2 * 16 * 32 * 24
    assert count["FlopCounterMode"](cases["custom op, with a formula"], True) == 3 * 2 * 16 * 32 * 64
    # Since torch 2.15 it counts the attention kernel of CPUs.
    fixed = TorchVersion(torch.__version__) >= (2, 15)
    assert count["FlopCounterMode"](cases["SDPA"], False) == (cases["SDPA"].forward if fixed else 0)


def test_there_are_at_least_sixty_programs_of_different_names(cases, benchmarks):
    from cases import CASES

    assert len(cases) == len(CASES) >= 60


def test_a_ratio_of_one_is_the_exact_integer_only(benchmarks):
    from bakeoff import Cell

    assert Cell(flops=10**6).shown(10**6) == "1.000"
    assert Cell(flops=10**6 + 1).shown(10**6) == "≈ 1"
    assert Cell(flops=10**6 + 1000).shown(10**6) == "1.001"
    assert Cell(flops=0).shown(10**6) == "0"
    assert Cell(flops=0).shown(0) == "1.000"
    assert Cell(flops=None, why="unknown").shown(10**6) == "unknown"


def test_the_page_has_a_row_for_every_program(cases, benchmarks):
    from bakeoff import BEGIN, END, PAGE

    block = PAGE.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]
    rows = {line.split("|")[1].strip(): line.split("|")[2].strip() for line in block.splitlines() if line[:1] == "|"}
    assert {name: rows.get(name) for name in cases} == {name: f"{case.forward:,}" for name, case in cases.items()}
