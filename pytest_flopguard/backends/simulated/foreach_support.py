"""Lets optimizers and gradient clipping choose foreach and fused ways for fake tensors as they do for plain ones.

torch asks for the exact type of every tensor (``_foreach_supported_types`` of torch/optim/optimizer.py and
torch/utils/_foreach_utils.py) before it takes lists of them, and a fake tensor is a subclass.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pytest_flopguard.backends.torch_api.fake import FakeTensor
from pytest_flopguard.backends.torch_api.tensors import foreach_types, optimizer_foreach_types


@contextmanager
def fake_tensors_supported() -> Iterator[None]:
    """Let fake tensors count as plain ones in both lists within the block."""
    lists: list[list[Any]] = [optimizer_foreach_types, foreach_types]
    added = [each for each in lists if FakeTensor not in each]
    for each in added:
        each.append(FakeTensor)
    try:
        yield
    finally:
        for each in added:
            each.remove(FakeTensor)
