"""Heads that torch itself widens for CUDA's flash kernel: their zeros are no work of the model.

The kernel for 16-bit floats takes heads whose width is a multiple of 8. ``F.scaled_dot_product_attention`` pads others
with zeros, calls the kernel, and cuts the result (aten/src/ATen/native/transformers/attention.cpp, ``pad_last_dim``).
No other device does, and the same model counts the same everywhere, so such calls are told with their true width.
Padding that a program writes itself is the program's work, on each device: it comes from another line of code.
"""

from __future__ import annotations

import sys
import weakref
from collections import deque
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import torch

from pytest_flopguard.backends.torch_api.tensors import address_of

_aten = torch.ops.aten
PAD = _aten.constant_pad_nd.default
_FORWARD = _aten._scaled_dot_product_flash_attention.default
_BACKWARD = _aten._scaled_dot_product_flash_attention_backward.default
KERNELS = (_FORWARD, _BACKWARD)
_STEP = 8
_PASSED_OVER = tuple(f"{each}/" for each in (Path(torch.__file__).parent, Path(__file__).parent.parent))

_Site = tuple[int, int]


class SeveralWidths(Exception):
    """Heads of different widths became alike, so nobody can tell whose gradient this is."""


class _Padded(NamedTuple):
    storage: weakref.ref[torch.UntypedStorage]
    width: int
    site: _Site


class PaddedHeads:
    """Learns from the op calls before a kernel's which width its heads have had."""

    def __init__(self) -> None:
        self._last: deque[_Padded] = deque(maxlen=3)  # query, key and value, each right after the other
        self._widths: dict[Any, set[int]] = {}

    def saw_padding(self, args: Any, out: torch.Tensor) -> None:
        """Take note of a call of ``constant_pad_nd``."""
        tensor, amounts, *value = args
        if out.dim() == 4 and len(amounts) == 2 and amounts[0] == 0 and 0 < amounts[1] < _STEP and value in ([], [0]):
            self._last.append(_Padded(weakref.ref(out.untyped_storage()), tensor.shape[-1], _site()))

    def without_padding(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Return the arguments of a kernel's call, heads cut to the width that they had before torch padded them.

        Raises SeveralWidths for a gradient that may belong to calls of different widths.
        """
        heads = args[:3] if func is _FORWARD else args[1:4]
        alike = (*(each.shape for each in heads), (kwargs or {}).get("scale"))
        if func is _FORWARD:
            width = self._width(heads)
            self._widths.setdefault(alike, set()).add(width)
        else:
            widths = self._widths.get(alike, {heads[0].shape[-1]})
            if len(widths) > 1:
                raise SeveralWidths(
                    f"heads of width {' and '.join(map(str, sorted(widths)))} were padded to {heads[0].shape[-1]}"
                )
            (width,) = widths
        if width == heads[0].shape[-1]:
            return args
        cut = 3 if func is _FORWARD else 5  # backward: gradient, query, key, value, result
        return (*(each[..., :width] for each in args[:cut]), *args[cut:])

    def _width(self, heads: Any) -> int:
        whole: int = heads[0].shape[-1]
        site = _site()
        if len(self._last) < 3 or any(each.site != site for each in self._last):
            return whole
        for padded, head in zip(self._last, heads, strict=True):
            storage = padded.storage()
            if storage is None or address_of(storage) != address_of(head.untyped_storage()):
                return whole
        widths = {each.width for each in self._last}
        return widths.pop() if len(widths) == 1 else whole


def _site() -> _Site:
    """Return the instruction of the innermost code outside torch and this package that runs now."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith(_PASSED_OVER):
        frame = frame.f_back
    return (0, 0) if frame is None else (id(frame), frame.f_lasti)
