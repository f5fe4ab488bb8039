"""One table of names for every command, option and limit."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from pytest_flopguard.backends.simulated.gpus import DEFAULT, gpu_named
from pytest_flopguard.backends.simulated.gpus import GPUS as SIMULATED
from pytest_flopguard.core.errors import UnknownNameError
from pytest_flopguard.core.gpu_names import ALIASES, gpu_name, spelled
from pytest_flopguard.formulas.hardware.datasheets import GPUS as DATASHEETS
from pytest_flopguard.formulas.hardware.datasheets import gpu


def test_no_spelling_has_two_meanings() -> None:
    found = Counter(spelled(each) for name, others in ALIASES.items() for each in (name, *others))
    assert [each for each, times in found.items() if times > 1] == []


def test_every_table_of_facts_uses_these_names() -> None:
    assert set(DATASHEETS) == set(ALIASES)
    assert set(SIMULATED) <= set(ALIASES)
    assert DEFAULT in SIMULATED


@pytest.mark.parametrize("name", SIMULATED)
def test_every_product_name_is_a_spelling(name: str) -> None:
    """What torch.cuda.get_device_name() prints on the board can be pasted into any option."""
    assert gpu_name(SIMULATED[name].product) == name


@pytest.mark.parametrize("name", [*SIMULATED, *(each for name in SIMULATED for each in ALIASES[name])])
def test_estimates_and_simulated_gpus_take_the_same_names(name: str) -> None:
    assert gpu(name).name == gpu_named(name).name
    assert gpu(name.upper().replace("-", " ")).name == gpu_named(name.replace("-", "_")).name == gpu(name).name


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("H100 SXM", "h100"),
        ("h100_sxm", "h100"),
        ("NVIDIA H100-SXM", "h100"),
        ("A100-SXM4-40GB", "a100-40gb"),
        ("a100", "a100-80gb"),
        ("RTX 4090", "rtx4090"),
        ("rtx-4090", "rtx4090"),
        ("NVIDIA GeForce RTX 3090", "rtx3090"),
        ("NVIDIA RTX 6000 Ada Generation", "rtx6000-ada"),
        ("Tesla T4", "t4"),
        ("NVIDIA A100 80GB PCIe", "a100-pcie-80gb"),
        ("of my own", "of my own"),
    ],
)
def test_spellings(spelling: str, name: str) -> None:
    assert gpu_name(spelling) == name


def test_a_gpu_without_the_facts_that_are_needed_is_refused() -> None:
    # A TPU has a peak and a bandwidth, but no CUDA allocator.
    assert gpu("tpu-v4").name == "tpu-v4"
    with pytest.raises(UnknownNameError, match=re.escape("unknown GPU to simulate 'tpu-v4'; known are v100, ")):
        gpu_named("tpu-v4")
