"""Memory that cuBLAS and cuBLASLt work in.

Up to torch 2.14 one block a handle and stream, kept for ever: a handle belongs to a thread, so a training step of one
stream has two, the caller's and the autograd engine's. From 2.15 on a block for each call, given back with it, unless
TORCH_CUBLAS_WORKSPACE_CACHE says otherwise.

Source: aten/src/ATen/cuda/CublasHandlePool.cpp, parseChosenWorkspaceSize, parseCUDABlasLtWorkspaceSize,
unified_cublas_and_lt_workspaces and isCUDABlasWorkspaceCachingEnabled; isInputCompliesAddmmCudaLt of
aten/src/ATen/native/cuda/Blas.cpp; what differs between torch 2.11 and 2.15 was read in the code of each wheel.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from pytest_flopguard.backends.simulated.gpus import Gpu
from pytest_flopguard.backends.simulated.releases import Release, installed

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

# Those that call cuBLASLt alone (scaled_gemm and int8_gemm of CUDABlas.cpp); the last takes its handle and no block.
BLAS_LT = frozenset({"aten::_scaled_mm", "aten::_scaled_mm_v2"})
_HANDLE_ALONE = "aten::_int_mm"
_LT_DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)

# Blocks by the library that works in them, in bytes.
Blocks = Sequence[tuple[str, int]]


class CublasWorkspaces:
    """What calls take on a GPU: ``kept`` says whether a handle keeps its blocks, or each call gives them back."""

    def __init__(self, gpu: Gpu, environ: Mapping[str, str], release: Release | None = None) -> None:
        release = installed() if release is None else release
        # Flags are 0 or 1; torch warns of any other text and leaves it out (check_env of c10/util/env.cpp).
        # Up to 2.14 a handle has a block of its own from the moment it is asked for, also by cuBLASLt.
        self._by_handle = release < (2, 15)
        self.kept = self._by_handle or environ.get("TORCH_CUBLAS_WORKSPACE_CACHE") == "1"
        unified = self.kept and environ.get("TORCH_CUBLASLT_UNIFIED_WORKSPACE") != "0"
        self._is_one = self._by_handle and unified
        self._may_add_by_lt = environ.get("DISABLE_ADDMM_CUDA_LT") != "1"
        self._cublas: Blocks = (("cuBLAS", cublas_workspace_bytes(gpu, environ, release)),)
        lt: Blocks = (("cuBLASLt", cublaslt_workspace_bytes(environ)),)
        self._cublaslt = self._cublas if unified else (*self._cublas, *lt) if self._by_handle else lt

    def of(self, op: str, args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> Blocks:
        """Return the blocks that a call of one of BLAS takes."""
        if isinstance(out, torch.Tensor) and not out.numel():
            return ()
        if self._is_one:
            return self._cublas
        if op == _HANDLE_ALONE:
            return self._cublas if self._by_handle else ()
        by_lt = op in BLAS_LT or (self._may_add_by_lt and _adds_by_lt(op, args, kwargs, out))
        return self._cublaslt if by_lt else self._cublas


def _adds_by_lt(op: str, args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> bool:
    """Whether a product has its bias added by cuBLASLt: a vector for all rows, or any with an activation."""
    if op not in ("aten::addmm", "aten::_addmm_activation") or kwargs.get("beta", 1) != 1 or not out.is_contiguous():
        return False
    bias, left, right = args[:3]
    is_vector = bias.dim() == 1 or sum(size != 1 for size in bias.shape) == 1
    vector = is_vector and bias.is_contiguous() and bias.shape[-1] == right.shape[1]
    activated = op == "aten::_addmm_activation" and bias.dim() == 2
    return (vector or activated) and left.dtype in _LT_DTYPES and min(*left.shape, *right.shape) > 1


def cublas_workspace_bytes(gpu: Gpu, environ: Mapping[str, str], release: Release | None = None) -> int:
    """Return the bytes of one cuBLAS workspace.

    32 MiB on Hopper, and from torch 2.12 on on Blackwell too; else 4096 KiB twice and 16 KiB eight times, or what
    CUBLAS_WORKSPACE_CONFIG says (``:KIB:COUNT`` pairs; a text without a pair is warned of and left out by torch).
    """
    newest = 9 if (installed() if release is None else release) < (2, 12) else 12
    default = 32 * _KIB * _KIB if 9 <= gpu.capability[0] <= newest else (2 * 4096 + 8 * 16) * _KIB
    pairs = _PAIR.findall(environ.get("CUBLAS_WORKSPACE_CONFIG", ""))
    return sum(int(size) * _KIB * int(count) for size, count in pairs) if pairs else default


def cublaslt_workspace_bytes(environ: Mapping[str, str]) -> int:
    """Return the bytes of one cuBLASLt workspace, where it is one of its own."""
    # std::stoi reads the digits at the front, and torch keeps its default where there are none.
    digits = re.match(r"\s*[+-]?[0-9]+", environ.get("CUBLASLT_WORKSPACE_SIZE", ""))
    return int(digits.group()) * _KIB if digits else _LT_DEFAULT
