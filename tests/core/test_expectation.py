"""Expectations: units of quantities, places, device keys."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from typing import get_args

import pytest

from pytest_flopguard.core.expectation import UNITS, Expectation, Origin, Quantity, matches_device, phase_of
from pytest_flopguard.core.units import Unit


def test_every_quantity_has_a_unit() -> None:
    assert list(UNITS) == list(get_args(Quantity))


@pytest.mark.parametrize(
    ("quantity", "unit"),
    [
        ("flops", Unit.FLOP),
        ("recompute_flops", Unit.FLOP),
        ("peak_memory", Unit.BYTE),
        ("memory_growth", Unit.BYTE),
        ("parameter_bytes", Unit.BYTE),
        ("parameters", Unit.COUNT),
        ("unknown_ops", Unit.COUNT),
    ],
)
def test_the_unit_of_an_expectation_is_its_quantitys(quantity: Quantity, unit: Unit) -> None:
    assert Expectation(quantity=quantity, high=1, origin=Origin(path="t.py")).unit is unit


@pytest.mark.parametrize(
    ("origin", "shown"),
    [
        (Origin(path="pyproject.toml", line=12, text='flops = "9 GFLOP"'), "pyproject.toml:12"),
        (Origin(path="command line"), "command line"),
    ],
)
def test_an_origin_shows_as_file_and_line(origin: Origin, shown: str) -> None:
    assert str(origin) == shown


@pytest.mark.parametrize(
    ("key", "device", "fits"),
    [
        ("cuda", "cuda:sm90", True),
        ("cuda:sm90", "cuda:sm90", True),
        ("cuda:sm90", "cuda:sm80", False),
        ("cuda:sm9", "cuda:sm90", False),
        ("cuda:sm90", "cuda", False),
        ("cud", "cuda", False),
        ("sim", "sim:h100", True),
        ("fake:cpu", "fake:cpu", True),
        ("cpu", "fake:cpu", False),
        ("cpu", "cuda:sm90", False),
    ],
)
def test_a_device_key_fits_its_device_and_what_is_below(key: str, device: str, fits: bool) -> None:
    assert matches_device(key, device) is fits


def test_an_expectation_cannot_be_changed() -> None:
    expectation = Expectation(quantity="flops", high=1, origin=Origin(path="t.py"))
    with pytest.raises(FrozenInstanceError):
        expectation.high = 2  # type: ignore[misc]


def test_only_phase_quantities_have_a_phase() -> None:
    assert [phase_of(each) for each in ("flops", "backward_flops", "peak_memory")] == [None, "backward", None]
