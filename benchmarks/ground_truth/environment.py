"""What a recording ran on: the GPU, the libraries and every switch that chooses kernels."""

from __future__ import annotations

import ctypes
import os
import platform
from importlib import metadata
from typing import Any

import torch

from ground_truth.worlds import ALLOCATOR
from pytest_flopguard.backends.simulated.gpus import GPUS

# Environment variables that change what is allocated.
VARIABLES = (
    ALLOCATOR, "PYTORCH_ALLOC_CONF", "PYTORCH_NO_CUDA_MEMORY_CACHING", "CUBLAS_WORKSPACE_CONFIG",
    "CUBLASLT_WORKSPACE_SIZE", "TORCH_CUBLASLT_UNIFIED_WORKSPACE", "TORCH_CUDNN_SDPA_DEPRIORITIZED",
    "TORCH_CUDNN_V8_API_LRU_CACHE_LIMIT", "CUDNN_CONV_WSCAP_DBG", "CUDA_MODULE_LOADING",
)  # fmt: skip
# How cuBLAS and cuDNN tell their versions: library names as the loader finds them after torch has loaded them.
CUBLAS = ("libcublas.so.13", "libcublas.so.12", "libcublas.so.11")


def environment(gpu: str) -> dict[str, Any]:
    """Describe the device and the software, as far as they tell."""
    properties = torch.cuda.get_device_properties(0)
    cuda = torch.backends.cuda
    return {
        "gpu": gpu,
        "device": properties.name,
        "capability": [properties.major, properties.minor],
        "multiprocessors": properties.multi_processor_count,
        "total_memory": properties.total_memory,
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "cublas": cublas_version(),
        "cublas_workspace": asked("cublas_workspace_size"),
        "driver": asked_driver(),
        "transformers": version_of("transformers"),
        "triton": version_of("triton"),
        "python": platform.python_version(),
        "allocator_backend": torch.cuda.get_allocator_backend(),
        "variables": {name: os.environ[name] for name in VARIABLES if name in os.environ},
        "sdp": {
            name: getattr(cuda, f"{name}_sdp_enabled")() for name in ("flash", "mem_efficient", "cudnn", "math")
        },
        "sdp_priority": [int(each) for each in getattr(torch._C, "_get_sdp_priority_order", list)()],
        "cudnn_flags": {
            name: getattr(torch.backends.cudnn, name)
            for name in ("enabled", "benchmark", "deterministic", "allow_tf32")
        },
        "matmul_precision": torch.get_float32_matmul_precision(),
        "blas": str(cuda.preferred_blas_library()),
    }  # fmt: skip


def gpu_name() -> str:
    """Return the simulator's name for the GPU that is here, or its product name in small letters."""
    product = torch.cuda.get_device_name(0)
    for name, gpu in GPUS.items():
        if gpu.product == product:
            return name
    words = product.lower().removeprefix("nvidia ").removeprefix("geforce ")
    return "-".join("".join(each if each.isalnum() else " " for each in words).split())


def folder_name(gpu: str) -> str:
    """Name the folder of a recording: GPU and torch without its build."""
    return f"{gpu}-{torch.__version__.partition('+')[0]}"


def version_of(package: str) -> str:
    """Return the version of a package, ``""`` where it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def asked(name: str) -> object:
    """Call a query of ``torch.backends.cuda`` that not every build has; None where this one does not."""
    try:
        return getattr(torch.backends.cuda, name)()
    except (AttributeError, RuntimeError):
        return None


def asked_driver() -> str:
    """Return the version of the driver, as far as torch can ask for it."""
    query = getattr(torch._C, "_cuda_getDriverVersion", None)
    return "" if query is None else str(query())


def cublas_version() -> str:
    """Return the version of the cuBLAS that torch has loaded, ``""`` where none is found."""
    for name in CUBLAS:
        try:
            library = ctypes.CDLL(name, mode=os.RTLD_NOLOAD | os.RTLD_NOW)
        except OSError:
            continue
        parts = []
        for which in range(3):
            number = ctypes.c_int()
            if library.cublasGetProperty(which, ctypes.byref(number)):
                return ""
            parts.append(str(number.value))
        return ".".join(parts)
    return ""
