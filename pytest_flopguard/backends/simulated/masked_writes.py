"""Numbers written through a boolean mask, which indexing hands to ``masked_fill_``: no positions are looked for.

Source: aten/src/ATen/native/TensorAdvancedIndexingUtils.h (canDispatchToMaskedFill) and TensorAdvancedIndexing.cpp
(_index_put_impl_, index_put).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

_aten = torch.ops.aten
_IN_PLACE = {_aten.index_put_.default, _aten._index_put_impl_.default}
MASKS = (torch.bool, torch.uint8)


def filled(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> torch.Tensor | None:
    """Return what a call returns that writes one number where a mask says, None if it is another call."""
    if func not in _IN_PLACE and func is not _aten.index_put.default:
        return None
    target, indices, value = args[:3]
    accumulates = args[3] if len(args) > 3 else kwargs.get("accumulate", False)
    if accumulates or value.numel() != 1 or value.device.type != "cpu":
        return None
    given = [(at, index) for at, index in enumerate(indices) if index is not None]
    if len(given) != 1 or given[0][1].dtype not in MASKS or given[0][1].device != target.device:
        return None
    first, mask = given[0]
    wanted = target.shape[first : first + mask.dim()]
    if mask.shape != wanted:
        at = next(at for at in range(mask.dim()) if mask.shape[at : at + 1] != wanted[at : at + 1])
        raise IndexError(
            f"The shape of the mask {list(mask.shape)} at index {at} does not match the shape of the indexed tensor "
            f"{list(target.shape)} at index {first + at}"
        )
    mask = mask.reshape(mask.shape + (1,) * (target.dim() - first - mask.dim()))
    written: torch.Tensor = target if func in _IN_PLACE else target.clone(memory_format=torch.preserve_format)
    written.masked_fill_(mask.bool(), value.reshape(()))
    return written
