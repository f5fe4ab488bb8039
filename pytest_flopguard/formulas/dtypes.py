"""How many bits an element of a dtype takes, under torch's names and the short ones that papers use."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from pytest_flopguard.core.errors import unknown_name
from pytest_flopguard.formulas.sizes import whole

BITS: Mapping[str, int] = MappingProxyType(
    {
        "float64": 64,
        "float32": 32,
        "bfloat16": 16,
        "float16": 16,
        "float8": 8,
        "float4": 4,
        "int64": 64,
        "int32": 32,
        "int16": 16,
        "int8": 8,
        "uint8": 8,
        "int4": 4,
        "bool": 8,
    }
)
# TF32 is a way to multiply: what lies in memory is float32.
COMPUTE_ONLY = ("tf32",)
ALIASES: Mapping[str, str] = MappingProxyType(
    {
        "fp64": "float64",
        "fp32": "float32",
        "bf16": "bfloat16",
        "fp16": "float16",
        "half": "float16",
        "fp8": "float8",
        "float8_e4m3fn": "float8",
        "float8_e5m2": "float8",
        "fp4": "float4",
        "tfloat32": "tf32",
    }
)


def dtype_name(dtype: str) -> str:
    """Return torch's name of a dtype (``"bf16"`` and ``"torch.bfloat16"`` are ``"bfloat16"``); UnknownNameError."""
    short = str(dtype).lower().removeprefix("torch.")
    name = ALIASES.get(short, short)
    if name not in BITS and name not in COMPUTE_ONLY:
        raise unknown_name("dtype", dtype, (*BITS, *COMPUTE_ONLY, *ALIASES))
    return name


def dtype_bits(dtype: str) -> int:
    """Bits that one element takes in memory; UnknownNameError for a dtype without a size, as tf32 is."""
    name = dtype_name(dtype)
    if name not in BITS:
        raise unknown_name("storage dtype", dtype, BITS)
    return BITS[name]


def dtype_bytes(dtype: str, elements: int = 1) -> int:
    """Bytes of packed elements; two 4-bit elements share a byte, and an odd last one takes a whole byte."""
    return -(-dtype_bits(dtype) * whole("elements", elements) // 8)
