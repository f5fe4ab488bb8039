"""Tells whether op calls are recorded by torch, for the test or for torch itself: none of them is to be changed.

make_fx, torch.export and AOTAutograd run a program once on fake tensors and write down its op calls. Where the test
asked for that, the program's work is what it recorded. Where torch records by the way, as for the backward of a
higher-order op, nothing of it is work: that comes when the recorded graph runs.
"""

from __future__ import annotations

import sys
from types import FrameType

from pytest_flopguard.backends.torch_api.late import RECORDERS

_FOR_THE_TEST = "torch.export"


def by_the_way() -> bool:
    """Whether torch, and not the test, is what runs a program on tensors without data."""
    frame: FrameType | None = sys._getframe(1)
    found = False
    while frame is not None:
        module = frame.f_globals.get("__name__")
        if isinstance(module, str) and module.startswith("torch."):
            if module.startswith(_FOR_THE_TEST):
                return False
            found = found or module.startswith(RECORDERS)
        frame = frame.f_back
    return found
