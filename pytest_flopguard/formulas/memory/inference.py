"""What a model that only answers takes: weights, KV cache, and how many requests fit beside them."""

from __future__ import annotations

from pytest_flopguard.core.errors import SizeError, message
from pytest_flopguard.formulas.dtypes import dtype_bytes
from pytest_flopguard.formulas.memory.footprint import Footprint
from pytest_flopguard.formulas.memory.sharding import shard
from pytest_flopguard.formulas.sizes import positive, whole


def inference(parameters: int, *, dtype: str, kv_bytes: int = 0, tensor: int = 1) -> Footprint:
    """Bytes on each of ``tensor`` devices: N * size of the weights and the KV cache, both split evenly.

    Activations are left out: one layer's are alive at a time. ``rule_of_thumb`` adds a share for them.
    """
    devices = positive("tensor parallel size", tensor)
    return Footprint(
        weights=dtype_bytes(dtype, shard(parameters, devices)), kv_cache=shard(whole("KV cache", kv_bytes), devices)
    )


def rule_of_thumb(weight_bytes: int) -> int:
    """Return 1.2 times the weights, rounded up: what serving takes in all (Transformer Math 101)."""
    return -(-whole("weight bytes", weight_bytes) * 6 // 5)


def requests_that_fit(*, memory: int, weight_bytes: int, bytes_per_request: int, reserved: int = 0) -> int:
    """Whole requests whose KV cache fits: (memory - weights - reserved) // bytes per request.

    SizeError where not even the weights fit. ``reserved`` is for activations and what the driver keeps.
    """
    taken = whole("weight bytes", weight_bytes) + whole("reserved bytes", reserved)
    if positive("memory", memory) < taken:
        raise SizeError(message("bad-size", name="memory", value=memory, rule=f"room for {taken} bytes of weights"))
    return (memory - taken) // positive("bytes per request", bytes_per_request)
