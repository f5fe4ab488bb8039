"""What happens when a program asks a simulated tensor for a value that nobody knows."""

from __future__ import annotations

import sys
from pathlib import Path
from types import FrameType

import torch

from pytest_flopguard.backends.code_sites import CodeSites
from pytest_flopguard.backends.torch_api import files
from pytest_flopguard.core.errors import FlopguardError, message

_OWN = Path(__file__).parent.parent.as_posix() + "/"
# Where torch's own code reads a value, and the one that training in good order gives there.
_TORCH_READS = {
    files.RANDOM_WEIGHTS: "random weights are drawn without rejections",
    files.GRAD_SCALER: "no gradient overflows under GradScaler",
    files.ADAFACTOR: "the norms of Adafactor's weights and updates are 0, which changes numbers and no memory",
    files.DISTRIBUTIONS: "parameters of distributions are valid",
}
# Libraries that look for overflows and the like; they are told that there are none, and the report tells that.
LIBRARIES = ("transformers", "diffusers", "timm")


class ValueRead(FlopguardError):
    """A simulated tensor has a shape and no values, and the program asked for one."""


def refuse(what: str) -> ValueRead:
    """Return the error for a value that was asked for, naming the line that asks."""
    return ValueRead(message("value-read", what=what, where=CodeSites(Path.cwd()).here()))


def assumed(dtype: torch.dtype) -> tuple[object, str] | None:
    """Return the value that a library's own check is given, and the assumption in it; None where there is none."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename
        if file.startswith(files.FOLDER):
            for part, text in _TORCH_READS.items():
                if file.startswith(files.FOLDER + part):
                    return (dtype is not torch.bool and 0.0) if part != files.DISTRIBUTIONS else True, text
        elif not file.startswith(_OWN):
            break
        frame = frame.f_back
    if frame is not None and dtype is torch.bool:
        for library in LIBRARIES:
            if f"/{library}/" in frame.f_code.co_filename:
                place = frame.f_code.co_filename.rpartition(f"/{library}/")[2]
                return False, f"the check of unknown values at {library}/{place}:{frame.f_lineno} answers no"
    return None
