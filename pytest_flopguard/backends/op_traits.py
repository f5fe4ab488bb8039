"""What an op's tags, schema and name tell of its work, before any call. torch tags few ops; its names help."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch

from pytest_flopguard.backends.torch_api.dispatch import OpOverload, schema_of

_TORCH = ("aten", "prims", "quantized")
_DERIVATIVES = ("_backward", "_backward_data", "_jvp")


class Kin(NamedTuple):
    """Another op whose class this op shares, what its overloads' tags tell, and whether this op is its derivative."""

    name: str
    traits: frozenset[str]
    derivative: bool


def traits(func: OpOverload) -> frozenset[str]:
    """Return an op's tags, and by its schema: view, factory (no tensor goes in), query (none comes out), random."""
    schema = schema_of(func)
    found = _tags(func)
    if func.is_view:
        found.add("view")
    going_in = [each for each in schema.arguments if _holds_tensors(each.type) and not each.is_out]
    coming_out = [each for each in schema.returns if _holds_tensors(each.type)]
    # A custom op with tensors on one side alone may do any work: torch's own alone get the benefit of the doubt.
    if not going_in and not coming_out:
        found.add("query")
    if func.namespace in _TORCH:
        if not going_in:
            found.add("factory")
        if not coming_out and not schema.is_mutable:
            found.add("query")
        # Attention and recurrent layers draw for their dropout too, but take several tensors.
        if "nondeterministic_seeded" in found and len(going_in) == 1 and str(going_in[0].type) == "Tensor":
            found.add("random")
    return frozenset(found)


def _holds_tensors(kind: Any) -> bool:
    # Objects of custom classes may hold tensors, as packed parameters do.
    return any(word in str(kind) for word in ("Tensor", "__torch__", "Any", "PyObject"))


def kin(func: OpOverload) -> Iterator[Kin]:
    """Yield the ops that torch names this one after: other overloads, the out-of-place twin, the op on one tensor.

    The derivative of an op costs a small multiple of the op, whatever the op is (Baur and Strassen, The complexity of
    partial derivatives, 1983): where the op has no product, neither has its derivative.
    """
    space, _, name = schema_of(func).name.partition("::")
    plain = name.removesuffix("_")
    yield from _kin(space, name)
    yield from _kin(space, plain)
    if space in _TORCH:
        yield from _kin("aten", plain.removeprefix("_foreach_"))
        yield from _kin("aten", f"special_{plain}")
        for suffix in _DERIVATIVES:
            if plain.endswith(suffix):
                yield from _kin("aten", plain.removesuffix(suffix), derivative=True)


def _kin(space: str, name: str, derivative: bool = False) -> Iterator[Kin]:
    packet = getattr(getattr(torch.ops, space), name, None)
    if packet is not None:
        tags = [tag for overload in packet.overloads() for tag in _tags(getattr(packet, overload))]
        yield Kin(f"{space}.{name}", frozenset({"pointwise", "reduction"} & set(tags)), derivative)


def _tags(func: OpOverload) -> set[str]:
    return {str(tag).rpartition(".")[2] for tag in func.tags}
