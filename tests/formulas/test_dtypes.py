from __future__ import annotations

import pytest
import torch

from pytest_flopguard.core.errors import UnknownNameError
from pytest_flopguard.formulas.dtypes import BITS, dtype_bits, dtype_bytes, dtype_name


@pytest.mark.parametrize("spelling", ["bf16", "BF16", "bfloat16", "torch.bfloat16"])
def test_spellings(spelling: str) -> None:
    assert dtype_name(spelling) == "bfloat16"
    assert dtype_bytes(spelling) == 2


@pytest.mark.parametrize("name", [name for name in BITS if name not in ("float8", "float4", "int4")])
def test_sizes_are_torchs(name: str) -> None:
    assert dtype_bits(name) == 8 * getattr(torch, name).itemsize


def test_half_bytes_are_packed() -> None:
    assert [dtype_bytes("int4", elements) for elements in (0, 1, 2, 3)] == [0, 1, 1, 2]


def test_an_unknown_dtype_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown dtype 'floot16'; .*did you mean 'float16'\? \[unknown-name\]"):
        dtype_bits("floot16")


def test_tf32_is_a_way_to_multiply_and_has_no_size() -> None:
    assert dtype_name("tf32") == "tf32"
    with pytest.raises(UnknownNameError, match="unknown storage dtype 'tf32'"):
        dtype_bits("tf32")
