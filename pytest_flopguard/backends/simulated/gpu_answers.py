"""What torch answers about a simulated GPU alone, whatever runs on it."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch

from pytest_flopguard.backends.simulated.cuda_kernels import another_gpu
from pytest_flopguard.backends.simulated.gpus import Gpu

Answers = dict[tuple[str, str], Callable[..., Any]]


def cuda_answers(gpu: Gpu) -> dict[str, Any]:
    """Return the functions of torch.cuda."""
    properties = SimpleNamespace(
        name=gpu.product,
        major=gpu.capability[0],
        minor=gpu.capability[1],
        total_memory=gpu.total_memory,
        multi_processor_count=gpu.multiprocessors,
        max_threads_per_multi_processor=gpu.threads_per_multiprocessor,
        warp_size=32,
        regs_per_multiprocessor=65536,
        gcnArchName="",
        is_integrated=0,
        is_multi_gpu_board=0,
    )
    return {
        "is_available": yes,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "set_device": only_one,
        "get_device_properties": _of_the_gpu(properties),
        "get_device_capability": _of_the_gpu(gpu.capability),
        "get_device_name": _of_the_gpu(gpu.product),
        "get_arch_list": lambda: [gpu.sm.replace("sm", "sm_")],
        "is_bf16_supported": lambda *_, **__: gpu.capability >= (8, 0),
        "is_tf32_supported": lambda: gpu.capability >= (8, 0),
    }


def accelerator_answers() -> dict[str, Any]:
    """Return the functions of torch.accelerator."""
    return {
        "is_available": yes,
        "device_count": lambda: 1,
        "current_accelerator": lambda *_, **__: torch.device("cuda"),
    }


def backend_answers(gpu: Gpu) -> Answers:
    """Return the functions of torch.backends, by module and name."""
    return {
        ("torch.backends.cuda", "is_built"): yes,
        ("torch.backends.cudnn", "is_available"): yes,
        ("torch.backends.cudnn", "version"): lambda: gpu.cudnn,
    }


def answers(gpu: Gpu) -> Answers:
    """Return all of them, by module and name."""
    return {
        **{("torch.cuda", name): answer for name, answer in cuda_answers(gpu).items()},
        **{("torch.accelerator", name): answer for name, answer in accelerator_answers().items()},
        **backend_answers(gpu),
    }


def _of_the_gpu(answer: object) -> Callable[..., Any]:
    def answered(device: Any = None) -> object:
        if device is not None:
            only_one(device)
        return answer

    return answered


def only_one(index: Any) -> None:
    """Select the GPU that there is; any other is refused."""
    chosen = torch.device(index) if isinstance(index, (str, torch.device)) else torch.device("cuda", index)
    if chosen.index not in (None, 0):
        raise another_gpu(chosen)


def yes(*args: object, **kwargs: object) -> bool:
    """Answer that it is there."""
    return True
