"""Which storages hold a layer's weight: a parameter's own, and those that are filled from parameters alone.

Autocast casts a weight, checkpointing unpacks it detached from its parameter, offloading copies it to the host and
back, weight norm and fake quantization compute it. None of these is an ``nn.Parameter`` any more, and all are weights.
The result of a product is not: it may be the queries that a model learns.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.utils.weak import WeakIdKeyDictionary

from pytest_flopguard.backends.constant_tensors import tensors, written
from pytest_flopguard.backends.torch_api.tensors import view_base

_COPIES = {"aten._to_copy", "aten.clone", "aten.copy", "aten.cat", "aten._reshape_copy", "aten.to_mkldnn"}
_COPY_INTO = "aten.copy_"
# Products whose operands are matrices: a computed tensor in one of these is a weight. Elsewhere it may be queries.
_OF_MATRICES = {"aten.mm", "aten.addmm", "aten.linear"}


class WeightStorages:
    """Follows parameters by their storages, through the calls of an OpWatch."""

    def __init__(self) -> None:
        self._copied: WeakIdKeyDictionary = WeakIdKeyDictionary()  # storage -> whether copying alone filled it

    def saw(self, name: str, func: Any, args: Any, kwargs: Any, out: Any) -> None:
        """Note what a call without a product makes of weights."""
        inputs = list(tensors((args, kwargs)))
        if not inputs:
            return
        if name == _COPY_INTO:
            into, source = inputs[:2]
            self._note(into, self._kind(source))
            return
        kinds = [self._kind(each) for each in inputs]
        if None not in kinds:
            copied = name in _COPIES and all(kinds)
            for each in tensors((out,)):
                if self._kind(each) is None:
                    self._note(each, copied)
        elif any(True for _ in written(func, args, kwargs)):
            self._note(inputs[0], None)

    def is_weight(self, name: str, operand: torch.Tensor) -> bool:
        """Whether an operand of a product is a layer's weight."""
        copied = self._kind(operand)
        return copied is True or (copied is False and name in _OF_MATRICES)

    def _kind(self, tensor: torch.Tensor) -> bool | None:
        """Return whether a tensor's storage was filled by copying parameters; None for what is no weight."""
        storage = storage_of(tensor)
        if storage is None:
            return None
        if _is_parameter(tensor):
            self._copied[storage] = True
            return True
        found: bool | None = self._copied.get(storage)
        return found

    def _note(self, tensor: torch.Tensor, copied: bool | None) -> None:
        storage = storage_of(tensor)
        if storage is None or _is_parameter(tensor):
            return
        if copied is None:
            self._copied.pop(storage, None)
        else:
            self._copied[storage] = copied


def storage_of(tensor: torch.Tensor) -> torch.UntypedStorage | None:
    """Return the storage of a tensor, None for sparse tensors and others without one."""
    try:
        return tensor.untyped_storage()
    except NotImplementedError:
        return None


def _is_parameter(tensor: torch.Tensor) -> bool:
    base = view_base(tensor)
    return isinstance(tensor if base is None else base, nn.Parameter)
