"""What formulas are told of an op call's arguments: shapes for tensors, never values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from pytest_flopguard.backends.torch_api.fake import FakeTensor
from pytest_flopguard.backends.torch_api.tensors import MKLDNN, nested_sizes, sparse_values
from pytest_flopguard.core.tensors import TensorSpec

Signature = tuple[Any, ...]
# An op on sparse tensors does other work than on dense ones: its formula has a name of its own, "aten.mm[sparse]".
SPARSE = "[sparse]"
# Ops that do for each component of a nested tensor what they do for a tensor, and whether dense arguments are shared
# by all components (a weight) or would have to be cut along the batch.
_BY_COMPONENT = {
    "aten.linear": True,
    "aten.linear_backward": True,
    "aten.matmul": False,
    "aten.matmul_backward": False,
    "aten.scaled_dot_product_attention": False,
    "aten._transformer_encoder_layer_fwd": True,
    "aten._native_multi_head_attention": True,
}
_BATCHED = ("aten._transformer_encoder_layer_fwd", "aten._native_multi_head_attention")
_DENSE = (torch.strided, MKLDNN)


class NoShape(Exception):
    """A tensor whose shape no formula can use; the text says why."""


class PackedWeight:
    """A quantized op's packed parameters; ``weight`` unpacks them, which copies, and so only where it is asked for."""

    __slots__ = ("_packed",)

    def __init__(self, packed: Any) -> None:
        self._packed = packed

    @property
    def weight(self) -> TensorSpec:
        """The shape of the weight as it was before packing."""
        return _spec(self._packed.unpack()[0])


def signature(values: Any) -> Signature:
    """Return a hashable key of arguments: what a TensorSpec tells of tensors, the value itself for the rest.

    Raises TypeError or RuntimeError where there is none.
    """
    return tuple(
        [
            (value.shape, value.dtype, value.requires_grad, value.layout if value.layout in _DENSE else _stored(value))
            if isinstance(value, torch.Tensor)
            else signature(value)
            if isinstance(value, (list, tuple))
            else value
            for value in values
        ]
    )


def specs(value: Any, *, result: bool = False) -> Any:
    """Replace tensors by TensorSpecs and packed parameters by PackedWeights, in nested lists too; may raise NoShape.

    A sparse ``result`` need not know how many elements it stores.
    """
    if isinstance(value, torch.Tensor):
        return _spec(value, result=result)
    if isinstance(value, (list, tuple)):
        return tuple(specs(each, result=result) for each in value)
    return PackedWeight(value) if isinstance(value, torch.ScriptObject) else value


def with_values(
    arguments: tuple[Any, ...], names: tuple[str, ...], values: Mapping[str, tuple[int, ...]]
) -> tuple[Any, ...]:
    """Add to the specs of arguments the values that were read of them."""
    if not values:
        return arguments
    return tuple(
        replace(each, values=values[name]) if name in values and isinstance(each, TensorSpec) else each
        for name, each in zip(names, arguments, strict=False)
    )


def is_sparse(value: Any) -> bool:
    """Whether a value is a sparse tensor of any layout."""
    return isinstance(value, torch.Tensor) and value.layout not in _DENSE and not value.is_nested


def by_component(op: str, args: Any) -> list[tuple[Any, ...]] | None:
    """Split a call on nested tensors into the specs of one call for each of their components.

    None where nothing is nested, or where it is not known how the op pairs components with the dense arguments.
    """
    nested = [each for each in args if isinstance(each, torch.Tensor) and each.is_nested]
    if not nested or any(each.layout != torch.strided for each in nested):
        return None
    dense = [each for each in args if isinstance(each, torch.Tensor) and not each.is_nested]
    if op not in _BY_COMPONENT or (dense and not _BY_COMPONENT[op]):
        return None
    # The sizes are kept on the host, whatever the device of the data.
    shapes = [nested_sizes(each).tolist() for each in nested]
    calls = []
    for components in zip(*shapes, strict=True):
        remaining = iter(zip(nested, components, strict=True))
        calls.append(
            tuple(
                _component(*next(remaining), lead=op in _BATCHED)
                if any(value is each for each in nested)
                else specs(value)
                for value in args
            )
        )
    return calls


def _component(tensor: torch.Tensor, shape: list[int], lead: bool) -> TensorSpec:
    return TensorSpec(
        shape=(1, *shape) if lead else tuple(shape),
        dtype=str(tensor.dtype).removeprefix("torch."),
        device=str(tensor.device),
        needs_grad=tensor.requires_grad,
    )


def describe(name: str, args: Any, kwargs: Any) -> str:
    """Render a call for a person: ``mylib.fused(float32[8, 16], 0.5)``."""
    parts = [_text(value) for value in args]
    parts += [f"{key}={_text(value)}" for key, value in (kwargs or {}).items()]
    return f"{name}({', '.join(parts)})"


def _spec(tensor: torch.Tensor, *, result: bool = False) -> TensorSpec:
    if tensor.is_nested:
        raise NoShape("a nested tensor's shape is not one shape")
    shape = tuple(tensor.shape)
    if any(type(size) is not int for size in shape):
        raise NoShape(f"the shape {shape} is symbolic")
    stored = _stored(tensor)[1] if is_sparse(tensor) else None
    if stored is not None and not result and (tensor.is_meta or isinstance(tensor, FakeTensor)):
        raise NoShape("a sparse tensor on the meta device, or a fake one, does not know how many elements it stores")
    return TensorSpec(
        shape=shape,
        dtype=str(tensor.dtype).removeprefix("torch."),
        device=str(tensor.device),
        needs_grad=tensor.requires_grad,
        stored=stored,
    )


def _stored(tensor: torch.Tensor) -> tuple[torch.layout, int]:
    """Return a sparse tensor's layout and how many elements it stores; RuntimeError or TypeError for any other."""
    if tensor.is_nested:
        raise TypeError("a nested tensor has no one shape")
    return tensor.layout, (sparse_values(tensor) if tensor.layout == torch.sparse_coo else tensor.values()).numel()


def _text(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        shape = "?" if value.is_nested else ", ".join(map(str, value.shape))
        return f"{str(value.dtype).removeprefix('torch.')}[{shape}]"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_text, value))}]"
    return repr(value) if isinstance(value, (bool, int, float, str, type(None))) else type(value).__name__
