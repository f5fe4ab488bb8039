"""Parameters and buffers of lazy modules on a simulated device: fake tensors until the first input shows their shape.

torch makes them of a plain tensor's class, and later changes that class, which a fake tensor does not survive.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter, is_lazy

from pytest_flopguard.backends.torch_api.fake import FakeTensor
from pytest_flopguard.backends.torch_api.tensors import swap_implementations, without_torch_function

# Frames of this module lie between those of the user: pytest leaves them out of tracebacks.
__tracebackhide__ = True

_MARKS = ("_is_param", "_is_buffer", "persistent")


class _Lazy:
    @property
    def shape(self) -> Any:
        return torch.Size((0,))  # which fake tensors' mode reads; torch raises an error here

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        checked: Any = super()
        out = checked.__torch_function__(func, types, args, kwargs)  # which refuses most functions
        if cls is _Buffer and type(out) is FakeTensor:
            out.__dict__.update(_marks(args[0]))
            out.__class__ = cls  # moved, and still without a shape
        elif cls is _Parameter and out is args[0]:
            with without_torch_function():
                return out.detach()  # was there already: a module makes a new parameter of it
        return out

    def materialize(self: Any, shape: Any, device: Any = None, dtype: Any = None) -> None:
        """Become a tensor of this shape, as the method of torch.nn.parameter does."""
        made = torch.empty(shape, device=device or self.device, dtype=dtype or self.dtype)
        made.requires_grad_(self.requires_grad)
        marks = _marks(self)
        self.__class__ = FakeTensor
        exchange(self, made)
        self.__dict__.update(marks)


class _Parameter(_Lazy, UninitializedParameter, FakeTensor):  # type: ignore[override]
    def __new__(cls, requires_grad: bool = True, device: Any = None, dtype: Any = None) -> Any:
        made: Any = nn.Parameter(torch.empty(0, device=device, dtype=dtype), requires_grad)
        made.__class__ = cls
        return made

    def __init__(self, *_: object, **__: object) -> None:
        """Leave what fake tensors' own initializer would want."""


class _Buffer(_Lazy, UninitializedBuffer, FakeTensor):  # type: ignore[override]
    def __new__(
        cls, requires_grad: bool = False, device: Any = None, dtype: Any = None, persistent: bool = True
    ) -> Any:
        made: Any = torch.empty(0, device=device, dtype=dtype, requires_grad=requires_grad)
        made.persistent, made._is_buffer = persistent, True
        made.__class__ = cls
        return made

    def __init__(self, *_: object, **__: object) -> None:
        """Leave what fake tensors' own initializer would want."""


def _marks(tensor: torch.Tensor) -> dict[str, Any]:
    return {name: value for name, value in tensor.__dict__.items() if name in _MARKS}


def replacements() -> Iterator[tuple[Any, str, Any]]:
    """Yield what to replace: an object of torch's, an attribute of it, and the replacement."""
    for lazy, simulated in ((UninitializedParameter, _Parameter), (UninitializedBuffer, _Buffer)):
        yield lazy, "__new__", _making(lazy, simulated)


def _making(lazy: type, simulated: type) -> Any:
    real = lazy.__new__

    def made(cls: type, *args: Any, **kwargs: Any) -> Any:
        return simulated(*args, **kwargs) if cls is lazy else real(cls, *args, **kwargs)

    return made


def exchange(one: torch.Tensor, other: torch.Tensor) -> None:
    """Swap two tensors; a lazy one stays lazy where the other is not, as when its module is moved."""
    for name in ("__class__", "__dict__"):
        ours, theirs = getattr(one, name), getattr(other, name)
        if name == "__class__" and is_lazy(one):
            continue
        setattr(one, name, theirs)
        setattr(other, name, ours)
    swap_implementations(one, other)
