"""Workspaces of cuBLAS by GPU, environment and release of torch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from pytest_flopguard.backends.simulated.cublas_workspaces import (
    CublasWorkspaces,
    cublas_workspace_bytes,
    cublaslt_workspace_bytes,
)
from pytest_flopguard.backends.simulated.gpus import gpu_named
from pytest_flopguard.backends.simulated.releases import READ, Release

MIB = 1 << 20
# ":4096:2:16:8": twice 4096 KiB and eight times 16 KiB.
BEFORE_HOPPER = 2 * 4 * MIB + 8 * 16 * 1024
BIG, LT = (("cuBLAS", 32 * MIB),), (("cuBLASLt", MIB),)
CACHED, APART = {"TORCH_CUBLAS_WORKSPACE_CACHE": "1"}, {"TORCH_CUBLASLT_UNIFIED_WORKSPACE": "0"}


def meta(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.empty(*shape, dtype=dtype, device="meta")


@pytest.mark.parametrize("release", READ)
@pytest.mark.parametrize(
    ("name", "bytes"),
    [("v100", 8_519_680), ("t4", BEFORE_HOPPER), ("a100", BEFORE_HOPPER), ("l4", BEFORE_HOPPER)]
    + [(name, 32 * MIB) for name in ("h100", "h200")],
)
def test_by_gpu(name: str, bytes: int, release: Release) -> None:
    assert cublas_workspace_bytes(gpu_named(name), {}, release) == bytes


@pytest.mark.parametrize("name", ["b200", "rtx5090"])
def test_blackwell_has_hoppers_from_torch_2_12_on(name: str) -> None:
    found = [cublas_workspace_bytes(gpu_named(name), {}, release) for release in READ]
    assert found == [BEFORE_HOPPER] + [32 * MIB] * 4


@pytest.mark.parametrize(
    ("config", "bytes"),
    [
        (":4096:8", 8 * 4 * MIB),
        (":4096:2:16:8", BEFORE_HOPPER),
        (":16:8", 8 * 16 * 1024),
        (":0:0", 0),
        # torch warns that it cannot parse these, and keeps its default.
        ("", 32 * MIB),
        ("4096", 32 * MIB),
    ],
)
def test_the_environment_counts(config: str, bytes: int) -> None:
    assert cublas_workspace_bytes(gpu_named("h100"), {"CUBLAS_WORKSPACE_CONFIG": config}) == bytes


@pytest.mark.parametrize(("text", "bytes"), [("", MIB), ("4096", 4 * MIB), ("8 MiB", 8192), ("much", MIB)])
def test_cublaslt_has_a_mebibyte_unless_told_otherwise(text: str, bytes: int) -> None:
    assert cublaslt_workspace_bytes({"CUBLASLT_WORKSPACE_SIZE": text}) == bytes


BIAS, LEFT, RIGHT, OUT = meta(6), meta(4, 5), meta(5, 6), meta(4, 6)


def blocks(release: Release, environ: dict[str, str], op: str, *args: Any, out: Tensor = OUT, **kwargs: Any) -> Any:
    return CublasWorkspaces(gpu_named("h100"), environ, release).of(f"aten::{op}", args, kwargs, out)


@pytest.mark.parametrize(
    ("release", "environ", "kept", "product", "biased", "int8"),
    [
        # Up to 2.14 cuBLASLt works in the block of the handle, or beside it.
        ((2, 14), {}, True, BIG, BIG, BIG),
        ((2, 14), APART, True, BIG, (*BIG, *LT), BIG),
        # From 2.15 on each call has a block for itself: isCUDABlasWorkspaceCachingEnabled, CublasLtWorkspace.
        ((2, 15), {}, False, BIG, LT, ()),
        ((2, 15), {"TORCH_CUBLAS_WORKSPACE_CACHE": "0"}, False, BIG, LT, ()),
        # torch warns that a flag is 0 or 1, and leaves it out.
        ((2, 15), {"TORCH_CUBLAS_WORKSPACE_CACHE": "true"}, False, BIG, LT, ()),
        ((2, 14), {"TORCH_CUBLASLT_UNIFIED_WORKSPACE": "off"}, True, BIG, BIG, BIG),
        ((2, 15), CACHED, True, BIG, BIG, ()),
        ((2, 15), {**CACHED, **APART}, True, BIG, LT, ()),
        ((2, 15), {"DISABLE_ADDMM_CUDA_LT": "1"}, False, BIG, BIG, ()),
    ],
)
def test_who_works_where(
    release: Release, environ: dict[str, str], kept: bool, product: Any, biased: Any, int8: Any
) -> None:
    assert CublasWorkspaces(gpu_named("h100"), environ, release).kept == kept
    assert blocks(release, environ, "mm", LEFT, RIGHT) == product
    assert blocks(release, environ, "addmm", BIAS, LEFT, RIGHT) == biased
    assert blocks(release, environ, "_scaled_mm", LEFT, RIGHT) == biased or "DISABLE_ADDMM_CUDA_LT" in environ
    assert blocks(release, environ, "_int_mm", LEFT, RIGHT) == int8


@pytest.mark.parametrize(
    ("op", "args", "options", "by_lt"),
    [
        ("addmm", (BIAS, LEFT, RIGHT), {"alpha": 2}, True),
        ("addmm", (meta(1, 6), LEFT, RIGHT), {}, True),
        ("addmm", (BIAS.half(), LEFT.half(), RIGHT.half()), {}, True),
        ("addmm", (BIAS, LEFT, RIGHT), {"beta": 2}, False),
        # A bias of one number, of every second, a matrix of them: added by the kernel of cuBLAS.
        ("addmm", (meta(1), LEFT, RIGHT), {}, False),
        ("addmm", (meta(12)[::2], LEFT, RIGHT), {}, False),
        ("addmm", (OUT, LEFT, RIGHT), {}, False),
        ("_addmm_activation", (OUT, LEFT, RIGHT), {}, True),
        ("addmm", (BIAS, LEFT, RIGHT), {"out": meta(6, 4).t()}, False),
        ("addmm", tuple(each.to(torch.complex64) for each in (BIAS, LEFT, RIGHT)), {}, False),
        # Neither one row nor one column.
        ("addmm", (BIAS, meta(1, 5), RIGHT), {"out": meta(1, 6)}, False),
        ("addmm", (BIAS, meta(4, 1), meta(1, 6)), {}, False),
        ("bmm", (meta(2, 4, 5), meta(2, 5, 6)), {"out": meta(2, 4, 6)}, False),
    ],
)
def test_cublaslt_adds_biases(op: str, args: tuple[Tensor, ...], options: dict[str, Any], by_lt: bool) -> None:
    assert blocks((2, 15), {}, op, *args, **options) == (LT if by_lt else BIG)


def test_an_empty_product_asks_nobody() -> None:
    for release in READ:
        assert blocks(release, {}, "mm", meta(0, 5), RIGHT, out=meta(0, 6)) == ()
