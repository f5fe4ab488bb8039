"""Memory that cuBLAS and cuBLASLt work in: one block a handle and stream, kept for ever.

Source: aten/src/ATen/cuda/CublasHandlePool.cpp, parseChosenWorkspaceSize, parseCUDABlasLtWorkspaceSize and
unified_cublas_and_lt_workspaces. A handle belongs to a thread, so a training step of one stream has two: the caller's
and the autograd engine's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from pytest_flopguard.backends.simulated.gpus import Gpu

_KIB = 1024
_PAIR = re.compile(r":([0-9]+):([0-9]+)")
_LT_DEFAULT = 1024 * _KIB

# ATen ops whose kernels ask for the cuBLAS handle of their thread (aten/src/ATen/native/cuda/Blas.cpp). Linear layers
# with a bias reach cuBLASLt through addmm, which by default works in the same block.
BLAS = frozenset(
    f"aten::{name}"
    for name in [
        "mm",
        "addmm",
        "addmm_",
        "bmm",
        "baddbmm",
        "baddbmm_",
        "addbmm",
        "addbmm_",
        "mv",
        "addmv",
        "addmv_",
        "dot",
        "vdot",
        "_addmm_activation",
        "_int_mm",
        "addr",
        "ger",
        "_scaled_mm",
        "_scaled_mm_v2",
        "_grouped_mm",
        "linalg_solve_triangular",
        "triangular_solve",
        "_native_multi_head_attention",
        "_transformer_encoder_layer_fwd",
    ]
)

# Those that call cuBLASLt alone (scaled_gemm and int8_gemm of CUDABlas.cpp).
BLAS_LT = frozenset({"aten::_scaled_mm", "aten::_scaled_mm_v2", "aten::_int_mm"})


def cublas_workspace_bytes(gpu: Gpu, environ: Mapping[str, str]) -> int:
    """Return the bytes of one cuBLAS workspace.

    32 MiB from Hopper on, 4096 KiB twice and 16 KiB eight times before, or what CUBLAS_WORKSPACE_CONFIG says
    (``:KIB:COUNT`` pairs; a text without a pair is warned of and left out by torch).
    """
    default = 32 * _KIB * _KIB if gpu.capability[0] >= 9 else (2 * 4096 + 8 * 16) * _KIB
    pairs = _PAIR.findall(environ.get("CUBLAS_WORKSPACE_CONFIG", ""))
    return sum(int(size) * _KIB * int(count) for size, count in pairs) if pairs else default


def cublaslt_workspace_bytes(gpu: Gpu, environ: Mapping[str, str]) -> int:
    """Return the bytes of one cuBLASLt workspace of its own; 0 where it works in cuBLAS's, the default."""
    if environ.get("TORCH_CUBLASLT_UNIFIED_WORKSPACE", "1") not in ("0", "OFF", "NO", "FALSE", "off", "no", "false"):
        return 0
    # std::stoi reads the digits at the front, and torch keeps its default where there are none.
    digits = re.match(r"\s*[+-]?[0-9]+", environ.get("CUBLASLT_WORKSPACE_SIZE", ""))
    return int(digits.group()) * _KIB if digits else _LT_DEFAULT
