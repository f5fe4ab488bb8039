"""Ops that write to a part of a tensor in place: how many elements, and whether they read them before."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import zip_longest
from math import prod
from typing import Any, NamedTuple

import torch

from pytest_flopguard.backends.constant_tensors import has_data, reading_values
from pytest_flopguard.backends.stored_elements import NotTold
from pytest_flopguard.backends.torch_api.tensors import address_of

Given = Mapping[str, Any]


class PartialWrite(NamedTuple):
    """Elements of ``self`` that one call writes, each as often as it is indexed; whether it reads them, too."""

    elements: int
    reads: bool


def partial_write(name: str, given: Given) -> PartialWrite | None:
    """Return what a call of an op writes by its arguments' names; None for ops that write to all of a tensor.

    NotTold where masks decide it whose values are not there.
    """
    rule = _RULES.get(name)
    return None if rule is None else PartialWrite(rule.elements(given), rule.reads(given))


class _Rule(NamedTuple):
    elements: Callable[[Given], int]
    reads: Callable[[Given], bool]


def _per_index(given: Given) -> int:
    return int(given["index"].numel())


def _slices(given: Given) -> int:
    own = given["self"]
    length = own.shape[given["dim"]] if own.dim() else 1
    return int(own.numel() // length * given["index"].numel()) if length else 0


def _indexed(given: Given) -> int:
    own, shapes, kept, at = given["self"], [], [], 0
    for each in given["indices"]:
        if each is None:
            kept.append(own.shape[at])
        elif each.dtype in (torch.bool, torch.uint8):
            shapes.append((_true(each, own),))
        else:
            shapes.append(tuple(each.shape))
        at += each.dim() if each is not None and each.dtype in (torch.bool, torch.uint8) else 1
    return int(prod(_broadcast(shapes)) * prod(kept) * prod(own.shape[at:]))


def _broadcast(shapes: Iterable[tuple[int, ...]]) -> Iterable[int]:
    for sizes in zip_longest(*(shape[::-1] for shape in shapes), fillvalue=1):
        yield 0 if 0 in sizes else max(sizes)


def _true(mask: torch.Tensor, own: torch.Tensor) -> int:
    if not has_data(mask) or address_of(mask.untyped_storage()) == address_of(own.untyped_storage()):
        raise NotTold  # the second is a mask that has just been written over
    if mask.is_cuda and torch.cuda.is_current_stream_capturing():
        raise NotTold  # reading a value would end the capture
    with reading_values():
        return int(mask.count_nonzero())


def _accumulates(given: Given) -> bool:
    return bool(given.get("accumulate", False))


def _reduces(given: Given) -> bool:
    return "reduce" in given


def _includes(given: Given) -> bool:
    return bool(given.get("include_self", True))


def _always(given: Given) -> bool:
    return True


def _never(given: Given) -> bool:
    return False


_RULES = {
    "index_put_": _Rule(_indexed, _accumulates),
    "_index_put_impl_": _Rule(_indexed, _accumulates),
    "put_": _Rule(_per_index, _accumulates),
    "scatter_": _Rule(_per_index, _reduces),
    "scatter_add_": _Rule(_per_index, _always),
    "scatter_reduce_": _Rule(_per_index, _includes),
    "index_copy_": _Rule(_slices, _never),
    "index_fill_": _Rule(_slices, _never),
    "index_add_": _Rule(_slices, _always),
    "index_reduce_": _Rule(_slices, _includes),
}
