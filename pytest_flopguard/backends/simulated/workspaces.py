"""Memory that CUDA kernels take for themselves and give back when the op ends: one table over all ATen ops.

An op without an entry has none, or is told as unknown. None: elementwise ops, views, copies, fills and lists of them
(foreach, fused optimizers) write to their outputs through TensorIterator or multi_tensor_apply, which allocate nothing.
Unknown: the families that run in a library (convolutions, recurrent layers, linear algebra, Fourier transforms, sorts
and scans of cub) or write several kernels' results in between, which FAMILIES lists by the beginning of their names,
and every op that is none of torch's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from pytest_flopguard.backends.simulated import (
    attention_workspaces,
    composite_workspaces,
    ctc_loss,
    grouped_products,
    library_workspaces,
    matmul_workspaces,
    norm_workspaces,
    reduction_workspaces,
    sorting_workspaces,
)
from pytest_flopguard.backends.simulated.gpus import Gpu
from pytest_flopguard.backends.simulated.hidden_memory import Call, Entry, Hidden, UnknownWorkspace
from pytest_flopguard.backends.torch_api.dispatch import packet_name, packet_of

__all__ = ["TABLE", "UnknownWorkspace", "hidden"]

TABLE: Mapping[str, Entry] = MappingProxyType(
    {
        **attention_workspaces.ENTRIES,
        **composite_workspaces.ENTRIES,
        **ctc_loss.ENTRIES,
        **grouped_products.ENTRIES,
        **library_workspaces.ENTRIES,
        **matmul_workspaces.ENTRIES,
        **norm_workspaces.ENTRIES,
        **reduction_workspaces.ENTRIES,
        **sorting_workspaces.ENTRIES,
    }
)

# Entries by the identity of an op's packet, which hashes faster than the packet, and is its own while that is kept.
_found: dict[int, tuple[Any, Entry | None]] = {}


def hidden(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], out: Any, gpu: Gpu) -> Hidden:
    """Return the bytes of each block that an op call takes for itself on a GPU, or what is not known of them.

    ``func`` is the OpOverload, ``out`` what it returned; tensors may be fake.
    """
    packet = packet_of(func)
    try:
        entry = _found[id(packet)][1]
    except KeyError:
        entry = _entry(packet_name(packet))
        _found[id(packet)] = packet, entry
    return () if entry is None else entry(Call(args=args, kwargs=kwargs, out=out, gpu=gpu))


def _entry(name: str) -> Entry | None:
    """Return the entry of an op; an in-place op has that of its plain form."""
    for each in (name, name.removesuffix("_")):
        if each in TABLE:
            return TABLE[each]
    return library_workspaces.family(name)
