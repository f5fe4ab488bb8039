"""Workspaces of cuBLAS by GPU and environment."""

from __future__ import annotations

import pytest

from pytest_flopguard.backends.simulated.cublas_workspaces import cublas_workspace_bytes, cublaslt_workspace_bytes
from pytest_flopguard.backends.simulated.gpus import gpu_named

MIB = 1 << 20
# ":4096:2:16:8": twice 4096 KiB and eight times 16 KiB.
BEFORE_HOPPER = 2 * 4 * MIB + 8 * 16 * 1024


@pytest.mark.parametrize(
    ("name", "bytes"),
    [("v100", 8_519_680), ("t4", BEFORE_HOPPER), ("a100", BEFORE_HOPPER), ("l4", BEFORE_HOPPER)]
    + [(name, 32 * MIB) for name in ("h100", "h200", "b200", "rtx5090")],
)
def test_by_gpu(name: str, bytes: int) -> None:
    assert cublas_workspace_bytes(gpu_named(name), {}) == bytes


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


@pytest.mark.parametrize(
    ("environ", "bytes"),
    [
        ({}, 0),
        ({"TORCH_CUBLASLT_UNIFIED_WORKSPACE": "1"}, 0),
        ({"TORCH_CUBLASLT_UNIFIED_WORKSPACE": "0"}, MIB),
        ({"TORCH_CUBLASLT_UNIFIED_WORKSPACE": "0", "CUBLASLT_WORKSPACE_SIZE": "4096"}, 4 * MIB),
        ({"TORCH_CUBLASLT_UNIFIED_WORKSPACE": "0", "CUBLASLT_WORKSPACE_SIZE": "much"}, MIB),
    ],
)
def test_cublaslt_works_in_the_same_block_unless_told_otherwise(environ: dict[str, str], bytes: int) -> None:
    assert cublaslt_workspace_bytes(gpu_named("h100"), environ) == bytes
