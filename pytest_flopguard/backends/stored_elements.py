"""How many elements of its storage a tensor shows: those of expanded and overlapping views once."""

from __future__ import annotations

from math import prod

import torch


class NotTold(Exception):
    """How many bytes a call moves cannot be read off it."""


def stored(tensor: torch.Tensor) -> int:
    """Return the number of distinct places in storage; NotTold for views that overlap in no regular way."""
    if tensor.is_contiguous():
        return tensor.numel()
    # Dimensions of one stride are one longer dimension, as in the windows of unfold.
    steps: dict[int, int] = {}
    for size, stride in zip(tensor.shape, tensor.stride(), strict=True):
        if not size:
            return 0
        if stride and size > 1:
            steps[stride] = steps.get(stride, 0) + size - 1
    return _places(sorted(steps.items()))


def _places(dims: list[tuple[int, int]]) -> int:
    """Count the sums of the dimensions' multiples: pairs of stride and largest index, strides ascending."""
    if not dims:
        return 1
    (step, last), *rest = dims
    for at, (stride, more) in enumerate(rest):
        if stride % step == 0 and stride <= (last + 1) * step:
            # The run 0, step, 2*step ... goes on without a gap.
            last += more * stride // step
        elif stride > last * step and all(each % stride == 0 for each, _ in rest[at:]):
            return (last + 1) * _places(rest[at:])
        elif _disjoint(last * step, rest[at:]):
            return (last + 1) * prod(1 + each for _, each in rest[at:])
        else:
            raise NotTold
    return last + 1


def _disjoint(reach: int, dims: list[tuple[int, int]]) -> bool:
    for stride, last in dims:
        if stride <= reach:
            return False
        reach += stride * last
    return True
