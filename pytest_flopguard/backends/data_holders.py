"""The plain tensors that hold a tensor's data: itself, or what a sparse tensor or a wrapper subclass is made of."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from pytest_flopguard.backends.torch_api.dispatch import is_traceable_wrapper_subclass
from pytest_flopguard.backends.torch_api.fake import FakeTensor
from pytest_flopguard.backends.torch_api.tensors import sparse_indices, sparse_values

PLAIN = {torch.Tensor, nn.Parameter, FakeTensor}
_COMPRESSED = {
    torch.sparse_csr: ("crow_indices", "col_indices"),
    torch.sparse_bsr: ("crow_indices", "col_indices"),
    torch.sparse_csc: ("ccol_indices", "row_indices"),
    torch.sparse_bsc: ("ccol_indices", "row_indices"),
}


def holders(tensor: torch.Tensor) -> Iterator[torch.Tensor]:
    """Yield the tensors with a storage that together hold the data of one."""
    if type(tensor) not in PLAIN and is_traceable_wrapper_subclass(tensor):
        names, _ = tensor.__tensor_flatten__()
        for name in names:
            part = getattr(tensor, name)
            if isinstance(part, torch.Tensor):  # a DTensor names its device mesh too
                yield from holders(part)
    elif tensor.layout == torch.sparse_coo:
        yield sparse_indices(tensor)
        yield sparse_values(tensor)
    elif tensor.layout in _COMPRESSED:
        yield from (getattr(tensor, each)() for each in _COMPRESSED[tensor.layout])
        yield tensor.values()
    else:
        yield tensor
