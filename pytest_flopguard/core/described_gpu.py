"""A GPU that a project describes itself, to be simulated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

# CUDA C++ Programming Guide, "Technical specifications per compute capability": resident threads per multiprocessor.
THREADS: Mapping[tuple[int, int], int] = MappingProxyType(
    {
        (7, 0): 2048,
        (7, 5): 1024,
        (8, 0): 2048,
        (8, 6): 1536,
        (8, 9): 1536,
        (9, 0): 2048,
        (10, 0): 2048,
        (12, 0): 1536,
    }
)
CAPABILITIES: Mapping[str, tuple[int, int]] = MappingProxyType({f"{each[0]}.{each[1]}": each for each in THREADS})


@dataclass(frozen=True, slots=True, kw_only=True)
class DescribedGpu:
    """What torch's kernel choices and allocator ask of a GPU; memory and L2 cache in bytes."""

    name: str
    capability: tuple[int, int]
    multiprocessors: int
    memory: int
    l2_cache: int
