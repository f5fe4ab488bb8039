"""Values of tensors that decide how much an op computes: group boundaries, sequence lengths, indices that are skipped.

They are read where they exist. Meta and fake tensors have none, a CUDA graph's capture must not be interrupted by a
copy to the host, and what torch.func wraps belongs to several calls at once.
"""

from __future__ import annotations

from typing import Any

import torch

from pytest_flopguard.backends.constant_tensors import has_data, reading_values
from pytest_flopguard.backends.torch_api.tensors import is_wrapped

Values = tuple[int, ...]


def values(tensor: Any) -> Values | None:
    """Return a tensor's elements as whole numbers, row by row; None where there are none to read."""
    if not isinstance(tensor, torch.Tensor) or not has_data(tensor):
        return None
    if is_wrapped(tensor) or tensor.layout != torch.strided or tensor.is_nested:
        return None
    if tensor.is_cuda and torch.cuda.is_current_stream_capturing():
        return None
    with reading_values():
        return tuple(map(int, tensor.detach().reshape(-1).tolist()))


def by_name(names: tuple[str, ...], wanted: frozenset[str], args: Any, kwargs: Any) -> dict[str, Values]:
    """Return the values of those arguments of a call that decide its work, as far as they can be read."""
    given = {**dict(zip(names, args, strict=False)), **(kwargs or {})}
    found = {name: values(given[name]) for name in sorted(wanted & given.keys())}
    return {name: each for name, each in found.items() if each is not None}
