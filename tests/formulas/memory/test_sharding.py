from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_flopguard.core.errors import SizeError, UnknownNameError
from pytest_flopguard.formulas.memory.recipes import RECIPES
from pytest_flopguard.formulas.memory.sharding import ZERO_STAGES, fsdp, gathered, model_parallel, shard, zero

# Rajbhandari et al. 2020 (arXiv 1910.02054), table 1, GB per device: stage 1 / 2 / 3 by data-parallel size.
TABLE_1 = {
    7_500_000_000: {
        1: ("120", "120", "120"),
        4: ("52.5", "41.3", "30"),
        16: ("35.6", "21.6", "7.5"),
        64: ("31.4", "16.6", "1.88"),
        256: ("30.4", "15.4", "0.47"),
        1024: ("30.1", "15.1", "0.12"),
    },
    128_000_000_000: {
        1: ("2048", "2048", "2048"),
        4: ("896", "704", "512"),
        16: ("608", "368", "128"),
        64: ("536", "284", "32"),
        256: ("518", "263", "8"),
        1024: ("513", "257", "2"),
    },
    1_000_000_000_000: {
        1: ("16000", "16000", "16000"),
        4: ("7000", "5500", "4000"),
        16: ("4750", "2875", "1000"),
        64: ("4187", "2218", "250"),
        256: ("4046", "2054", "62.5"),
        1024: ("4011", "2013", "15.6"),
    },
}
CELLS = [
    (parameters, devices, stage, printed)
    for parameters, rows in TABLE_1.items()
    for devices, cells in rows.items()
    for stage, printed in enumerate(cells, start=1)
]


@pytest.mark.parametrize(("parameters", "devices", "stage", "printed"), CELLS)
def test_zero_table_1(parameters: int, devices: int, stage: int, printed: str) -> None:
    # Some cells are rounded (41.25 -> 41.3) and some cut (4011.7 -> 4011): less than one of the last digit either way.
    digits = len(printed.partition(".")[2])
    found = zero(parameters, stage=stage, devices=devices).total / 1e9
    assert abs(found - float(printed)) < 10**-digits


def test_stages_by_hand() -> None:
    # 1000 parameters on 4 devices: 250 each. 2 + 2 + 12 bytes.
    found = {stage: zero(1000, stage=stage, devices=4).parts() for stage in ZERO_STAGES}
    rows = [(each["weights"], each["gradients"], each["optimizer"]) for each in found.values()]
    assert rows == [(2000, 2000, 12000), (2000, 2000, 3000), (2000, 500, 3000), (500, 500, 3000)]


def test_megatrons_distributed_optimizer() -> None:
    # 6 + 12/dp bytes per parameter
    assert zero(800, stage=1, devices=8, recipe="megatron-adamw").total == 800 * 6 + 100 * 12


def test_the_fullest_device_holds_the_rest() -> None:
    # 10 over 4 devices: 3, 3, 3, 1 and two of padding.
    assert shard(10, 4) == 3
    assert zero(10, stage=3, devices=4).weights == 2 * 3


@pytest.mark.parametrize(("strategy", "stage"), [("no-shard", 0), ("shard-grad-op", 2), ("full-shard", 3)])
def test_fsdp_is_zero_by_other_names(strategy: str, stage: int) -> None:
    assert fsdp(1001, strategy=strategy, devices=8) == zero(1001, stage=stage, devices=8, recipe="fp32-adamw")


def test_three_dimensions() -> None:
    # 9600 parameters over TP 4 and PP 3: 800 each; ZeRO-1 over 8: 100 of the optimizer.
    found = model_parallel(9600, tensor=4, pipeline=3, data=8, stage=1)
    assert (found.weights, found.gradients, found.optimizer) == (1600, 1600, 1200)


def test_gathered_weights() -> None:
    assert gathered(1000, units=2) == 2 * 2 * 1000
    assert gathered(1000, recipe="fp32-adamw") == 4000


@given(
    parameters=st.integers(0, 10**13),
    devices=st.integers(1, 5000),
    recipe=st.sampled_from(sorted(RECIPES)),
)
def test_laws(parameters: int, devices: int, recipe: str) -> None:
    totals = [zero(parameters, stage=stage, devices=devices, recipe=recipe).total for stage in ZERO_STAGES]
    # A higher stage never holds more; all shards together hold everything, and less than one element each of padding.
    assert totals == sorted(totals, reverse=True)
    assert parameters <= devices * shard(parameters, devices) < parameters + devices
    assert zero(parameters, stage=3, devices=1, recipe=recipe).total == RECIPES[recipe].total * parameters
    assert model_parallel(parameters, data=devices, stage=2, recipe=recipe).total == totals[2]


@pytest.mark.parametrize(
    ("keywords", "told"),
    [
        ({"stage": 4, "devices": 2}, "ZeRO stage = 4: expected one of 0, 1, 2, 3"),
        ({"stage": 1, "devices": 0}, "devices = 0"),
    ],
)
def test_bad_sizes(keywords: dict[str, int], told: str) -> None:
    with pytest.raises(SizeError, match=told):
        zero(100, **keywords)


def test_negative_parameters() -> None:
    with pytest.raises(SizeError, match="parameters = -1"):
        zero(-1, stage=1, devices=1)


def test_unknown_names() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown training recipe 'mixed-adam'.*did you mean 'mixed-adamw'"):
        zero(1, stage=1, devices=1, recipe="mixed-adam")
    with pytest.raises(UnknownNameError, match=r"unknown FSDP strategy 'full_shard'.*did you mean 'full-shard'"):
        fsdp(1, strategy="full_shard", devices=1)
