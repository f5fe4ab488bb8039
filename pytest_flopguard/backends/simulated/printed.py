"""What a program gets that prints a simulated tensor: the values, where they are known, and an error where not."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from pytest_flopguard.backends.constant_tensors import reading_values
from pytest_flopguard.backends.simulated import known_values
from pytest_flopguard.backends.simulated.value_reads import LIBRARIES, refuse
from pytest_flopguard.backends.torch_api import files
from pytest_flopguard.backends.torch_api.fake import FakeTensor

_PASSED_OVER = (Path(__file__).as_posix(), *(files.FOLDER + file for file in files.TENSOR_TEXT))
_shape_only: Callable[..., str] = FakeTensor.__repr__


def text(tensor: FakeTensor, *, tensor_contents: str | None = None) -> str:
    """Return what ``repr`` says. Raises ValueRead where values are asked for that nobody knows.

    On a GPU printing takes memory too, so it is no harmless question. Torch and other libraries, which put tensors
    into the texts of errors, get shapes.
    """
    # First who asks: torch puts tensors into texts while it runs kernels, where no value can be computed.
    if tensor_contents is not None or _asked_by_a_library():
        return _shape_only(tensor, tensor_contents=tensor_contents)
    known = known_values.value(tensor)
    if known is None:
        raise refuse("the values, to print them,")
    with reading_values():
        shown = repr(known)
    return shown if tensor.device.type == "cpu" else f"{shown[:-1]}, device='{tensor.device}')"


def formatted(tensor: FakeTensor, how: str) -> str:
    """Return what ``format`` says: of a single value as of the number that it is. Raises as ``text``."""
    if tensor.dim() == 0:
        known = known_values.value(tensor)
        if known is None:
            raise refuse("a value, to print it,")
        with reading_values():
            return format(known.item(), how)
    return object.__format__(tensor, how)


def _asked_by_a_library() -> bool:
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith(_PASSED_OVER):
        frame = frame.f_back
    file = "" if frame is None else frame.f_code.co_filename
    return file.startswith(files.FOLDER) or any(f"/{each}/" in file for each in LIBRARIES)
