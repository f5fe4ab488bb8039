"""Ops that autograd's engine does in place on a GPU, and out of place as soon as somebody watches.

The engine adds a gradient onto one that it alone owns, and scatters into its own zeros, without a copy. Under any
dispatch mode ``isTensorSubclassLike`` is true for it (torch/csrc/autograd/input_buffer.cpp, FunctionsManual.cpp), and
it makes a copy. These are the calls to be undone.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from pytest_flopguard.backends.torch_api import files
from pytest_flopguard.backends.torch_api.autograd import ENGINE, running_backward
from pytest_flopguard.backends.torch_api.dispatch import TorchDispatchMode
from pytest_flopguard.backends.torch_api.fake import FakeTensor
from pytest_flopguard.backends.torch_api.tensors import (
    address_of,
    is_non_overlapping_and_dense_or_false,
    storage_users,
    tensor_users,
)

# Frames of this module lie between those of the user: pytest leaves them out of tracebacks.
__tracebackhide__ = True

_aten = torch.ops.aten
IN_PLACE = {
    _aten.add.Tensor: _aten.add_.Tensor,
    _aten.scatter_add.default: _aten.scatter_add_.default,
    _aten.scatter.src: _aten.scatter_.src,
    _aten.scatter.value: _aten.scatter_.value,
    _aten.masked_scatter.default: _aten.masked_scatter_.default,
    _aten.index_fill.int_Tensor: _aten.index_fill_.int_Tensor,
    _aten.index_put.default: _aten.index_put_.default,
    _aten.index_add.default: _aten.index_add_.default,
}
_OWN = Path(__file__).parent.parent.as_posix() + "/"
_PASSED_OVER = (_OWN, *(files.FOLDER + file for file in files.DISPATCH))


def engine_owns(func: Any, args: Any, kwargs: Any, references: int) -> bool:
    """Whether the engine itself does this call, on a plain tensor that nobody else holds.

    ``references`` is how many references a tensor has then, as ``sole_references`` has found.
    """
    own = args[0]
    if func is _aten.add.Tensor:
        other = args[1]
        if kwargs or not isinstance(other, torch.Tensor) or own.shape != other.shape or own.dtype != other.dtype:
            return False
    if not isinstance(own, FakeTensor) or not _called_by_engine():
        return False
    if storage_users(address_of(own.untyped_storage())) > 2:
        return False
    # index_put takes its indices in a list, which is one more holder.
    more = 1 if func is _aten.index_put.default else 0
    return _references(own) <= references + more and is_non_overlapping_and_dense_or_false(own)


def _references(tensor: Any) -> int:
    references: int = tensor_users(tensor)
    return references


def _called_by_engine() -> bool:
    """Whether no Python (a hook, an autograd.Function) stands between the engine and this op call."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        if not code.co_filename.startswith(_PASSED_OVER):
            return code.co_name == ENGINE
        frame = frame.f_back
    return True  # a thread of the engine's own


class _Probe(TorchDispatchMode):
    """Counts the references of a gradient that only the engine holds, when it adds to it."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.references = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is _aten.add.Tensor and running_backward() != -1:
            self.references = _references(args[0])
        return func(*args, **(kwargs or {}))


def sole_references() -> int:
    """Return how many references a tensor has that the engine alone owns, as a mode on top of all others sees it.

    To be called where simulated tensors can be made and trained, with no other mode around than theirs.
    """
    probe = _Probe()
    with torch.enable_grad(), probe:
        leaf = torch.empty(2, 2, device="cuda", requires_grad=True)
        twice_used = leaf * 2
        torch.autograd.backward([twice_used.sin().sum() + twice_used.cos().sum()])
    return probe.references
