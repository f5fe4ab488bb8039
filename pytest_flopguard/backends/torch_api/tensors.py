"""Layouts, storages and identities of tensors."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch._prims_common import is_non_overlapping_and_dense_or_false, suggest_memory_format
from torch.nested._internal import nested_tensor
from torch.optim.optimizer import _foreach_supported_types as optimizer_foreach_types
from torch.utils._device import _device_constructors as device_constructors
from torch.utils._foreach_utils import _foreach_supported_types as foreach_types

__all__ = [
    "MKLDNN",
    "address_of",
    "device_constructors",
    "foreach_types",
    "is_non_overlapping_and_dense_or_false",
    "is_wrapped",
    "make_subclass",
    "nested_sizes",
    "nested_tensor",
    "optimizer_foreach_types",
    "refuse_data_pointer",
    "safe_softmax",
    "sparse_indices",
    "sparse_values",
    "storage_users",
    "suggest_memory_format",
    "swap_implementations",
    "tensor_users",
    "view_base",
    "without_torch_function",
]

# What torch.func wraps belongs to several calls at once.
is_wrapped: Callable[[torch.Tensor], bool] = torch._C._functorch.is_functorch_wrapped_tensor
MKLDNN: torch.layout = torch._mkldnn  # type: ignore[attr-defined]
make_subclass: Callable[..., Any] = torch.Tensor._make_subclass
# Lets calls on subclasses of tensors pass by their ``__torch_function__``.
without_torch_function: Callable[[], AbstractContextManager[None]] = torch._C.DisableTorchFunctionSubclass
swap_implementations: Callable[[torch.Tensor, torch.Tensor], None] = torch._C._swap_tensor_impl
refuse_data_pointer: Callable[[torch.Tensor], None] = torch._C._set_throw_on_mutable_data_ptr
# The references to a storage, which is given by its address.
storage_users: Callable[[int], int] = torch._C._storage_Use_Count
safe_softmax: Callable[..., torch.Tensor] = torch._safe_softmax


def address_of(held: Any) -> int:
    """Return the address of torch's object behind a storage or a generator: one for all Python objects of it."""
    return int(held._cdata)


def tensor_users(tensor: torch.Tensor) -> int:
    """Return the references to torch's object behind a tensor."""
    held: Any = tensor
    return int(held._use_count())


def view_base(tensor: torch.Tensor) -> torch.Tensor | None:
    """Return the tensor that another is a view of, None for one that is no view."""
    return tensor._base


def nested_sizes(tensor: torch.Tensor) -> torch.Tensor:
    """Return the shapes of a nested tensor's parts, one a row."""
    return tensor._nested_tensor_size()


def sparse_indices(tensor: torch.Tensor) -> torch.Tensor:
    """Return the indices of a sparse COO tensor, coalesced or not."""
    return tensor._indices()


def sparse_values(tensor: torch.Tensor) -> torch.Tensor:
    """Return the values of a sparse COO tensor, coalesced or not."""
    return tensor._values()
