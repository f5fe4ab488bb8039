from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from pytest_flopguard.backends.base import Unavailable
from pytest_flopguard.backends.cuda_memory import CudaMemory
from pytest_flopguard.core.measurement import MemoryPeak

ROOT = Path(__file__).parent.parent.parent
MIB = 1024**2


@pytest.mark.parametrize(
    ("cuda", "hip", "reason"),
    [
        (None, None, "torch was built without CUDA"),
        ("12.8", None, "no CUDA device is visible"),
        (None, "6.4", "torch was built for ROCm, whose allocator figures have not been tried"),
    ],
)
def test_create_says_why_there_is_none(
    monkeypatch: pytest.MonkeyPatch, cuda: str | None, hip: str | None, reason: str
) -> None:
    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.setattr(torch.version, "hip", hip)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert CudaMemory.create() == Unavailable(name="cuda-allocator", reason=reason)


@pytest.mark.slow
def test_a_region_without_cuda_has_no_peak_and_starts_no_cuda() -> None:
    code = (
        "import torch\n"
        "from pytest_flopguard.backends.cuda_memory import CudaMemory\n"
        "CudaMemory.create()\n"
        "with CudaMemory() as memory:\n"
        "    outer = memory.begin()\n"
        "    inner = memory.begin()\n"
        "    torch.ones(1000)\n"
        "    print(memory.end(inner), memory.end(outer), torch.cuda.is_initialized())\n"
    )
    assert run(code) == "() () False\n"


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def memory() -> Iterator[CudaMemory]:
    torch.zeros(1, device="cuda")
    gc.collect()
    torch.cuda.empty_cache()
    memory = CudaMemory.create()
    assert isinstance(memory, CudaMemory), memory
    with memory:
        yield memory


def block(size: int = MIB) -> torch.Tensor:
    # Up to 1 MiB the allocator hands out exactly the size rounded up to 512 bytes; a larger block may be cut less
    # finely.
    return torch.empty(size, dtype=torch.uint8, device="cuda")


def only(peaks: tuple[MemoryPeak, ...] | Unavailable) -> MemoryPeak:
    assert not isinstance(peaks, Unavailable), peaks
    (peak,) = (each for each in peaks if each.index == torch.cuda.current_device())
    return peak


@pytest.mark.gpu
def test_the_peak_is_the_sum_of_the_blocks_that_live_together(memory: CudaMemory) -> None:
    resting = block()
    before = torch.cuda.memory_allocated()
    region = memory.begin()
    first, second = block(), block()
    del first
    third, fourth = block(), block()
    del second, third
    fifth = block()
    peak = only(memory.end(region))
    # Live blocks over time: 1 2 1 2 3 2 1 2, so 3 MiB at most, on what rested there.
    assert (peak.start_bytes, peak.peak_bytes, peak.growth_bytes) == (before, before + 3 * MIB, 3 * MIB)
    assert resting.numel() == fourth.numel() == fifth.numel() == MIB
    major, minor = torch.cuda.get_device_capability()
    assert (peak.device, peak.backend) == (f"cuda:sm{major}{minor}", "cuda-allocator")


@pytest.mark.gpu
def test_the_detail_tells_asked_and_reserved_bytes(memory: CudaMemory) -> None:
    stats = torch.cuda.memory_stats()
    region = memory.begin()
    tensor = block(1000)
    peak = only(memory.end(region))
    assert tensor.numel() == 1000
    # 1000 bytes take a block of 1024; a first small block makes the allocator reserve 2 MiB.
    assert peak.growth_bytes == 1024
    assert peak.detail["requested_peak_bytes"] == stats["requested_bytes.all.current"] + 1000
    assert peak.detail["reserved_start_bytes"] == stats["reserved_bytes.all.current"]
    reserved = peak.detail["reserved_peak_bytes"] - peak.detail["reserved_start_bytes"]
    assert reserved in (0, 2 * MIB)


@pytest.mark.gpu
def test_nested_regions_have_their_own_peaks(memory: CudaMemory) -> None:
    start = torch.cuda.memory_allocated()
    outer = memory.begin()
    blocks = [block() for _ in range(4)]
    blocks.clear()
    inner = memory.begin()
    blocks = [block() for _ in range(2)]
    small = only(memory.end(inner))
    sibling = memory.begin()
    more = block()
    large = only(memory.end(sibling))
    del more
    blocks.clear()
    whole = only(memory.end(outer))
    assert (small.start_bytes, small.peak_bytes) == (start, start + 2 * MIB)
    assert (large.start_bytes, large.peak_bytes) == (start + 2 * MIB, start + 3 * MIB)
    # The 4 MiB were gone before the first inner region began.
    assert (whole.start_bytes, whole.peak_bytes) == (start, start + 4 * MIB)


@pytest.mark.gpu
def test_garbage_of_former_tests_is_no_part_of_the_start(memory: CudaMemory) -> None:
    start = torch.cuda.memory_allocated()
    gc.disable()
    try:
        cycle: list[object] = [block()]
        cycle.append(cycle)
        del cycle
        assert torch.cuda.memory_allocated() == start + MIB
        peak = memory.end(memory.begin())
    finally:
        gc.enable()
    assert not isinstance(peak, Unavailable)
    assert [each.start_bytes for each in peak] == ([start] if start else [])


@pytest.mark.gpu
def test_running_out_of_memory_leaves_the_backend_closed(memory: CudaMemory) -> None:
    start = torch.cuda.memory_allocated()
    region = memory.begin()
    kept = block()
    with pytest.raises(torch.OutOfMemoryError):
        torch.empty(1 << 50, dtype=torch.uint8, device="cuda")
    assert only(memory.end(region)).peak_bytes == start + MIB
    del kept
    again = memory.begin()
    kept = block()
    assert only(memory.end(again)).peak_bytes == start + MIB
    del kept


@pytest.mark.gpu
def test_a_device_first_used_in_the_region_started_at_zero() -> None:
    code = (
        "import torch\n"
        "from pytest_flopguard.backends.cuda_memory import CudaMemory\n"
        "with CudaMemory.create() as memory:\n"
        "    region = memory.begin()\n"
        "    print(torch.cuda.is_initialized())\n"
        "    x = torch.empty(1 << 20, dtype=torch.uint8, device='cuda')\n"
        "    (peak,) = memory.end(region)\n"
        "print(peak.start_bytes, peak.peak_bytes, peak.detail['reserved_start_bytes'])\n"
    )
    assert run(code) == f"False\n0 {MIB} 0\n"


@pytest.mark.gpu
def test_a_kernel_fault_is_told_and_does_not_hide_the_tests_own_error() -> None:
    code = (
        "import os, sys, torch\n"
        "from pytest_flopguard.backends.cuda_memory import CudaMemory\n"
        "memory = CudaMemory.create()\n"
        "with memory:\n"
        "    region = memory.begin()\n"
        "    torch.zeros(4, device='cuda')[torch.tensor([9], device='cuda')]\n"
        "    print(type(memory.end(region)).__name__)\n"
        "    print(type(memory.end(memory.begin())).__name__)\n"
        # A broken device may also break torch's own way out.
        "sys.stdout.flush(); os._exit(0)\n"
    )
    assert run(code) == "Unavailable\nUnavailable\n"


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("variable", "value", "reason"),
    [
        ("PYTORCH_NO_CUDA_MEMORY_CACHING", "1", "turns the caching allocator off"),
        ("PYTORCH_CUDA_ALLOC_CONF", "backend:cudaMallocAsync", "the cudaMallocAsync allocator does not keep all"),
    ],
)
def test_other_allocators_are_refused(monkeypatch: pytest.MonkeyPatch, variable: str, value: str, reason: str) -> None:
    monkeypatch.setenv(variable, value)
    code = "from pytest_flopguard.backends.cuda_memory import CudaMemory; print(CudaMemory.create().reason)"
    assert reason in run(code)
