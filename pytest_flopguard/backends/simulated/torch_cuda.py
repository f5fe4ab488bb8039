"""What ``torch.cuda`` and its kin answer while a device is simulated."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, Protocol

import torch

from pytest_flopguard.backends.simulated.allocator import Allocator
from pytest_flopguard.backends.simulated.gpus import Gpu
from pytest_flopguard.backends.simulated.streams import Event, Streams

# The figures of torch.cuda.memory_stats that the allocator keeps, by its names for them.
_FIGURES = {
    "allocated_bytes": "allocated",
    "reserved_bytes": "reserved",
    "active_bytes": "active",
    "requested_bytes": "requested",
    "segment": "segments",
}
Replacement = tuple[Any, str, Any]


class Device(Protocol):
    """What the answers are about."""

    gpu: Gpu
    allocator: Allocator
    streams: Streams

    def use_on_stream(self, tensor: torch.Tensor, stream: int) -> None:
        """Say that another stream uses a tensor's memory."""


def replacements(device: Device) -> Iterator[Replacement]:
    """Yield what to replace: an object of torch's, an attribute of it, and what stands there meanwhile."""
    cuda = torch.cuda
    for name, answer in {**_queries(device), **_memory(device)}.items():
        yield cuda, name, answer
        if hasattr(cuda.memory, name):
            yield cuda.memory, name, answer
    for name, answer in _accelerator(device).items():
        if hasattr(torch.accelerator, name):
            yield torch.accelerator, name, answer
    for name in ("range_push", "range_pop", "mark", "range_start", "range_end"):
        yield cuda.nvtx, name, _nothing

    def record_stream(tensor: torch.Tensor, stream: Any) -> None:
        device.use_on_stream(tensor, stream.stream_id)

    yield torch.Tensor, "record_stream", record_stream
    yield torch.backends.cuda, "is_built", _yes
    yield torch.backends.cudnn, "is_available", _yes
    yield torch.backends.cudnn, "version", lambda: device.gpu.cudnn


def _queries(device: Device) -> dict[str, Any]:
    gpu, streams = device.gpu, device.streams
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
        "is_available": _yes,
        "is_initialized": _yes,
        "_is_compiled": _yes,
        "init": _nothing,
        "_lazy_init": _nothing,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "set_device": _nothing,
        "_exchange_device": lambda index: 0,
        "_maybe_exchange_device": lambda index: 0,
        "get_device_properties": lambda *_: properties,
        "get_device_capability": lambda *_: gpu.capability,
        "get_device_name": lambda *_: gpu.product,
        "get_arch_list": lambda: [gpu.sm.replace("sm", "sm_")],
        "is_bf16_supported": lambda *_, **__: gpu.capability >= (8, 0),
        "is_tf32_supported": lambda: gpu.capability >= (8, 0),
        "can_device_access_peer": lambda *_: False,
        "is_current_stream_capturing": lambda: False,
        "synchronize": lambda *_: streams.synchronized(None),
        "Stream": streams.stream,
        "Event": Event,
        "stream": streams.context,
        "StreamContext": streams.context,
        "current_stream": lambda *_: streams.current,
        "default_stream": lambda *_: streams.default,
        "set_stream": streams.make_current,
        "ipc_collect": _nothing,
    }


def _memory(device: Device) -> dict[str, Any]:
    allocator = device.allocator
    stats = allocator.stats

    def memory_stats(*_: Any) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, ours in _FIGURES.items():
            stat = getattr(stats, ours)
            found[f"{name}.all.current"], found[f"{name}.all.peak"] = stat.current, stat.peak
        return found | {"num_alloc_retries": stats.alloc_retries, "num_ooms": stats.ooms}

    def mem_get_info(*_: Any) -> tuple[int, int]:
        total = device.gpu.total_memory
        return max(0, total - stats.reserved.current), total

    return {
        "memory_allocated": lambda *_: stats.allocated.current,
        "max_memory_allocated": lambda *_: stats.allocated.peak,
        "memory_reserved": lambda *_: stats.reserved.current,
        "memory_cached": lambda *_: stats.reserved.current,
        "max_memory_reserved": lambda *_: stats.reserved.peak,
        "max_memory_cached": lambda *_: stats.reserved.peak,
        "reset_peak_memory_stats": lambda *_: allocator.reset_peaks(),
        "reset_max_memory_allocated": lambda *_: allocator.reset_peaks(),
        "reset_max_memory_cached": lambda *_: allocator.reset_peaks(),
        "reset_accumulated_memory_stats": _nothing,
        "memory_stats": memory_stats,
        "memory_snapshot": lambda *_: allocator.snapshot(),
        "mem_get_info": mem_get_info,
        "empty_cache": lambda *_: allocator.empty_cache(),
        "get_allocator_backend": lambda: "native",
        "set_per_process_memory_fraction": lambda fraction, *_: allocator.set_memory_fraction(fraction),
    }


def _accelerator(device: Device) -> dict[str, Any]:
    own = {**_queries(device), **_memory(device)}
    return {
        "is_available": _yes,
        "device_count": own["device_count"],
        "current_device_index": own["current_device"],
        "current_device_idx": own["current_device"],
        "set_device_index": _nothing,
        "set_device_idx": _nothing,
        "synchronize": own["synchronize"],
        "current_stream": own["current_stream"],
        "set_stream": own["set_stream"],
        **{
            name: own[name]
            for name in (
                "memory_allocated",
                "max_memory_allocated",
                "memory_reserved",
                "max_memory_reserved",
                "memory_stats",
                "reset_peak_memory_stats",
                "empty_cache",
            )
        },
    }


def _nothing(*args: object, **kwargs: object) -> None:
    """Stands for calls that change nothing here."""


def _yes(*args: object, **kwargs: object) -> bool:
    return True
