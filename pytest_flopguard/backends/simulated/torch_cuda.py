"""What ``torch.cuda`` and its kin answer while a device is simulated."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch

from pytest_flopguard.backends.simulated.allocator import Allocator
from pytest_flopguard.backends.simulated.cuda_kernels import not_simulated
from pytest_flopguard.backends.simulated.gpu_answers import (
    accelerator_answers,
    backend_answers,
    cuda_answers,
    only_one,
    yes,
)
from pytest_flopguard.backends.simulated.gpus import CONTEXT_BYTES, Gpu
from pytest_flopguard.backends.simulated.streams import Event, Streams
from pytest_flopguard.backends.torch_api.cuda import EXCHANGES, HISTORY, IS_COMPILED, LAZY_INIT

# The figures of torch.cuda.memory_stats that the allocator keeps, by its names for them.
_FIGURES = {
    "allocated_bytes": "allocated",
    "reserved_bytes": "reserved",
    "active_bytes": "active",
    "requested_bytes": "requested",
    "segment": "segments",
}
_GRAPHS = "CUDA graphs are not simulated"
_DRIVER = "only the driver of a real GPU knows"
_POOLS = "private pools and other allocators are not simulated"
_HISTORY = "the report of a simulated GPU tells the owners of its memory"
_NEED_A_GPU = {
    **dict.fromkeys(("CUDAGraph", "graph", "graph_pool_handle", "make_graphed_callables"), _GRAPHS),
    **dict.fromkeys(("export_dot", "export_graph_data"), _GRAPHS),
    **dict.fromkeys(
        ("clock_rate", "device_memory_used", "memory_usage", "power_draw", "temperature", "utilization",
         "list_gpu_processes", "current_blas_handle", "current_solver_handle", "check_error", "cudart",
         "host_memory_stats", "host_memory_stats_as_nested_dict", "reset_accumulated_host_memory_stats",
         "reset_peak_host_memory_stats"), _DRIVER),
    **dict.fromkeys(
        ("MemPool", "use_mem_pool", "CUDAPluggableAllocator", "change_current_allocator", "caching_allocator_alloc",
         "caching_allocator_delete", "caching_allocator_enable", "get_per_process_memory_fraction"), _POOLS),
    "GreenContext": "parts of a GPU are not simulated",
    **dict.fromkeys(("ExternalStream", "get_stream_from_external"), "its streams are not the driver's"),
    **dict.fromkeys(HISTORY, _HISTORY),
}  # fmt: skip
Replacement = tuple[Any, str, Any]


class Device(Protocol):
    """What the answers are about."""

    gpu: Gpu
    allocator: Allocator
    streams: Streams

    def use_on_stream(self, tensor: torch.Tensor, stream: int) -> None:
        """Say that another stream uses a tensor's memory."""

    def arrived(self, tensor: torch.Tensor) -> None:
        """Say that a tensor reached the device without an op call."""


def replacements(device: Device) -> Iterator[Replacement]:
    """Yield what to replace: an object of torch's, an attribute of it, and what stands there meanwhile."""
    cuda = torch.cuda
    for name, answer in {**_refusals(), **_queries(device), **_memory(device)}.items():
        for owner in (cuda, cuda.memory):
            if hasattr(owner, name):
                yield owner, name, answer
    for name, answer in _accelerator(device).items():
        if hasattr(torch.accelerator, name):
            yield torch.accelerator, name, answer
    for name in ("range_push", "range_pop", "mark", "range_start", "range_end"):
        yield cuda.nvtx, name, _nothing

    def record_stream(tensor: torch.Tensor, stream: Any) -> None:
        device.use_on_stream(tensor, stream.stream_id)

    yield torch.Tensor, "record_stream", record_stream
    yield torch, "Stream", device.streams.stream
    for (module, name), answer in backend_answers(device.gpu).items():
        yield sys.modules[module], name, answer


def _queries(device: Device) -> dict[str, Any]:
    streams = device.streams
    return {
        **cuda_answers(device.gpu),
        "is_initialized": yes,
        IS_COMPILED: yes,
        "init": _nothing,
        LAZY_INIT: _nothing,
        **dict.fromkeys(EXCHANGES, lambda index: 0),
        "can_device_access_peer": lambda *_, **__: False,
        "is_current_stream_capturing": lambda: False,
        "synchronize": lambda *_, **__: streams.synchronized(None),
        "Stream": streams.stream,
        "Event": Event,
        "stream": streams.context,
        "StreamContext": streams.context,
        "current_stream": lambda *_, **__: streams.current,
        "default_stream": lambda *_, **__: streams.default,
        "set_stream": streams.make_current,
        "ipc_collect": _nothing,
        "get_sync_debug_mode": lambda: 0,
        "set_sync_debug_mode": _nothing,
    }


def _memory(device: Device) -> dict[str, Any]:
    allocator = device.allocator
    stats = allocator.stats

    def memory_stats(*_: Any, **__: Any) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, ours in _FIGURES.items():
            stat = getattr(stats, ours)
            found[f"{name}.all.current"], found[f"{name}.all.peak"] = stat.current, stat.peak
        return found | {"num_alloc_retries": stats.alloc_retries, "num_ooms": stats.ooms}

    def nested_stats(*_: Any, **__: Any) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, value in memory_stats().items():
            *outer, last = name.split(".")
            inner = found
            for each in outer:
                inner = inner.setdefault(each, {})
            inner[last] = value
        return found

    def summary(*_: Any, **__: Any) -> str:
        lines = (f"{name:40} {value:>20,}" for name, value in memory_stats().items())
        return "\n".join((f"PyTorch CUDA memory summary: {device.gpu.product}, simulated", *lines))

    def mem_get_info(*_: Any, **__: Any) -> tuple[int, int]:
        total = device.gpu.total_memory
        return max(0, total - CONTEXT_BYTES - stats.reserved.current), total

    return {
        "memory_allocated": lambda *_, **__: stats.allocated.current,
        "max_memory_allocated": lambda *_, **__: stats.allocated.peak,
        "memory_reserved": lambda *_, **__: stats.reserved.current,
        "memory_cached": lambda *_, **__: stats.reserved.current,
        "max_memory_reserved": lambda *_, **__: stats.reserved.peak,
        "max_memory_cached": lambda *_, **__: stats.reserved.peak,
        "reset_peak_memory_stats": lambda *_, **__: allocator.reset_peaks(),
        "reset_max_memory_allocated": lambda *_, **__: allocator.reset_peaks(),
        "reset_max_memory_cached": lambda *_, **__: allocator.reset_peaks(),
        "reset_accumulated_memory_stats": _nothing,
        "memory_stats": memory_stats,
        "memory_stats_as_nested_dict": nested_stats,
        "memory_summary": summary,
        "memory_snapshot": lambda *_, **__: allocator.snapshot(),
        "mem_get_info": mem_get_info,
        "empty_cache": lambda *_, **__: allocator.empty_cache(),
        "get_allocator_backend": lambda: "native",
        "set_per_process_memory_fraction": lambda fraction, *_, **__: allocator.set_memory_fraction(fraction),
    }


def _refusals() -> dict[str, Any]:
    """What needs a driver, by name, each as something that says so: a class where torch has one."""
    found: dict[str, Any] = {}
    for name, reason in _NEED_A_GPU.items():
        there = getattr(torch.cuda, name, None) or getattr(torch.cuda.memory, name, None)
        if there is not None:
            found[name] = _refusing_class(name, there, reason) if isinstance(there, type) else _refusing(name, reason)
    return found


def _refusing(name: str, reason: str) -> Any:
    def refuse(*_: Any, **__: Any) -> Any:
        raise not_simulated(f"torch.cuda.{name}", reason)

    return refuse


def _refusing_class(name: str, there: type, reason: str) -> type:
    refuse = _refusing(name, reason)
    made = {"create": staticmethod(refuse)} if hasattr(there, "create") else {}
    return type(name, (), {"__init__": refuse, **made})


def _accelerator(device: Device) -> dict[str, Any]:
    own = {**_queries(device), **_memory(device)}
    return {
        **accelerator_answers(),
        "current_device_index": own["current_device"],
        "current_device_idx": own["current_device"],
        "set_device_index": only_one,
        "set_device_idx": only_one,
        "synchronize": own["synchronize"],
        "device_index": _on_only_one,
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


@contextmanager
def _on_only_one(index: int | None) -> Iterator[None]:
    if index is not None:
        only_one(index)
    yield


def _nothing(*args: object, **kwargs: object) -> None:
    """Stands for calls that change nothing here."""
