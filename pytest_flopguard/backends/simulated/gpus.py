"""GPUs that can be simulated: what torch's kernel choices, reductions and workspaces ask of a device.

Multiprocessors, threads and L2 bytes are from the makers' whitepapers and the CUDA programming guide's table of
compute capabilities. Memory is what ``torch.cuda.get_device_properties`` or CUDA's deviceQuery printed for such a
board; it differs by some MiB between drivers, and matters only where a run comes near the capacity.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from pytest_flopguard.backends.simulated.releases import Release, cudnn_of, installed
from pytest_flopguard.core.described_gpu import THREADS, DescribedGpu
from pytest_flopguard.core.gpu_names import gpu_row

_MIB = 1 << 20
DEFAULT = "h100"

# Taken by the driver, a context and loaded kernels before the allocator gets anything: nvidia-smi shows 400 to 600 MiB
# for a process that has only made a context. Assumed, not known: it changes with driver and CUDA version.
CONTEXT_BYTES = 500 * _MIB

# CUDA 13 has no Volta; the wheels for CUDA 12.6 require nvidia-cudnn-cu12 9.10.2.
_CUDNN_FOR_CUDA_12_6 = 91_002


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One GPU: its product name, compute capability, size in multiprocessors, and memory in bytes."""

    name: str
    product: str
    capability: tuple[int, int]
    multiprocessors: int
    threads_per_multiprocessor: int
    total_memory: int
    l2_bytes: int

    @property
    def sm(self) -> str:
        """The architecture as CUDA writes it: ``"sm90"``."""
        return f"sm{self.capability[0]}{self.capability[1]}"

    @property
    def usable_memory(self) -> int:
        """Bytes that the allocator can take from the device."""
        return self.total_memory - CONTEXT_BYTES

    @property
    def cudnn(self) -> int:
        """The version of cuDNN that torch's CUDA wheel for this GPU brings, as ``cudnn.version()`` tells it: 92000."""
        return self.cudnn_of(installed())

    def cudnn_of(self, release: Release) -> int:
        """Return the version of cuDNN that a release's CUDA wheel for this GPU brings."""
        return _CUDNN_FOR_CUDA_12_6 if self.capability < (7, 5) else cudnn_of(release)


def _gpu(name: str, product: str, capability: tuple[int, int], processors: int, memory: int, l2: int) -> Gpu:
    """Build a row: memory and L2 in MiB."""
    return Gpu(
        name=name,
        product=product,
        capability=capability,
        multiprocessors=processors,
        threads_per_multiprocessor=THREADS[capability],
        total_memory=memory * _MIB,
        l2_bytes=l2 * _MIB,
    )


_ROWS = (
    # Volta whitepaper, table 1: 80 multiprocessors, 6 MB of L2. Memory as printed by torch 1.8.
    _gpu("v100", "Tesla V100-SXM2-16GB", (7, 0), 80, 16_160, 6),
    # Turing whitepaper, table 6 (TU104 cut to 40 multiprocessors). Memory as printed by torch 2.5.
    _gpu("t4", "Tesla T4", (7, 5), 40, 15_095, 4),
    # A100 whitepaper, table 4: 108 multiprocessors, 40 MB of L2. Memory as printed by deviceQuery of CUDA 11.4.
    _gpu("a100-40gb", "NVIDIA A100-SXM4-40GB", (8, 0), 108, 40_339, 40),
    # The same chip; memory of an A100 80GB board as printed by a CUDA 12.3 tool.
    _gpu("a100-80gb", "NVIDIA A100-SXM4-80GB", (8, 0), 108, 81_049, 40),
    # GA102 whitepaper: 80 of 84 multiprocessors. Memory as printed by torch 2.15.
    _gpu("a10g", "NVIDIA A10G", (8, 6), 80, 22_587, 6),
    # GA102 whitepaper, appendix A. Memory as printed by torch 1.8.
    _gpu("rtx3090", "NVIDIA GeForce RTX 3090", (8, 6), 82, 24_268, 6),
    # Ada whitepaper, appendix A; deviceQuery of CUDA 12.8: 58 multiprocessors, 23,583,784,960 bytes (22,491 MiB).
    _gpu("l4", "NVIDIA L4", (8, 9), 58, 22_491, 48),
    # Ada whitepaper, appendix A (L40S): 142 multiprocessors. Memory as printed by torch 2.0.
    _gpu("l40s", "NVIDIA L40S", (8, 9), 142, 45_589, 96),
    # Ada whitepaper, appendix A. Memory as printed by torch 2.4.
    _gpu("rtx4090", "NVIDIA GeForce RTX 4090", (8, 9), 128, 24_563, 72),
    # H100 whitepaper, table 3 (SXM5). Memory as printed by torch 2.7.
    _gpu("h100", "NVIDIA H100 80GB HBM3", (9, 0), 132, 81_089, 50),
    # H200 datasheet: the same chip. Memory and L2 as printed by torch 2.6.
    _gpu("h200", "NVIDIA H200", (9, 0), 132, 143_156, 60),
    # Memory, multiprocessors and L2 as printed by torch 2.9.
    _gpu("b200", "NVIDIA B200", (10, 0), 148, 182_642, 126),
    # RTX Blackwell whitepaper, appendix A; deviceQuery of CUDA 12.8: 170 multiprocessors, 33,680,457,728 bytes.
    _gpu("rtx5090", "NVIDIA GeForce RTX 5090", (12, 0), 170, 32_120, 96),
)

GPUS: Mapping[str, Gpu] = MappingProxyType({each.name: each for each in _ROWS})


def gpu_named(text: str, gpus: Mapping[str, Gpu] = GPUS) -> Gpu:
    """Return a GPU by any spelling that ``core.gpu_names`` lists; UnknownNameError names the nearest and all known."""
    return gpu_row("GPU to simulate", text, gpus)


def gpus_with(described: Mapping[str, DescribedGpu]) -> Mapping[str, Gpu]:
    """Return the built-in GPUs and those that a project describes."""
    own = {
        name: Gpu(
            name=name,
            product=name,
            capability=each.capability,
            multiprocessors=each.multiprocessors,
            threads_per_multiprocessor=THREADS[each.capability],
            total_memory=each.memory,
            l2_bytes=each.l2_cache,
        )
        for name, each in described.items()
    }
    return MappingProxyType({**GPUS, **own})
