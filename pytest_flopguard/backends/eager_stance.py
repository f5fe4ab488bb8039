"""Compiled functions while op calls are watched: run as they are written, since a compiled kernel hides its ops.

torch has a switch for this, which is thrown for functions that the test compiled. What torch compiles for itself, to
capture the body of a higher-order op or to export, is left alone: without its graph, torch.cond would lose gradients.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from types import FrameType, ModuleType
from typing import Any
from unittest.mock import patch

import torch

from pytest_flopguard.backends.late_modules import LateModule
from pytest_flopguard.backends.torch_api import late

Undo = Callable[[], None]


class EagerStance:
    """The switch, thrown on entry; later where the compiler is not loaded, since loading it takes seconds.

    ``met`` is called for each call of a compiled function that then runs as it is written. ``hidden`` is called where
    compiled code runs nevertheless, with whether torch itself compiled it for a higher-order op, and returns what is
    to be called when that has ended. Without ``eager`` the switch stays as it is, and compiled functions are hidden.
    """

    def __init__(
        self, met: Callable[[], None] | None = None, hidden: Callable[[bool], Undo] | None = None, *, eager: bool = True
    ) -> None:
        self.eager = eager
        self._met = met
        self._hidden = hidden
        self._stance: Any = None
        self._listening: Any = None
        self._late = LateModule(late.COMPILER, self._throw)
        self._warnings = warnings.catch_warnings()

    def __enter__(self) -> EagerStance:
        self._warnings = warnings.catch_warnings()
        self._warnings.__enter__()
        # The hooks are ours, and do not mind to be called for the model and for what wraps it.
        warnings.filterwarnings("ignore", "Using `torch.compile.module.` when there are global hooks")
        self._late.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        self._late.__exit__(*exc)
        if self._listening is not None:
            self._listening.__exit__(*exc)
            self._listening = None
        if self._stance is not None:
            self._stance.__exit__(*exc)
            self._stance = None
        self._warnings.__exit__(None, None, None)

    def _throw(self, compiler: ModuleType) -> None:
        # Takes effect at once; leaving it as a context puts back what was there before.
        frames: Any = compiler.eval_frame
        before = frames._stance
        if self.eager:
            self._stance = torch.compiler.set_stance("force_eager")
        thrown = frames._stance
        way = getattr(frames, late.CALLBACK_FROM_STANCE, None)
        if way is None:  # a torch that asks in another way: some call may be one
            if self._met is not None:
                self._met()
            return

        def put_back() -> None:
            frames._stance = thrown

        def asked(callback: Any) -> Any:
            if not callable(callback):
                return way(callback)
            caller = sys._getframe(1)
            if self._hidden is not None and _is_of_torch(caller, callback):
                _when_left(caller, self._hidden(late.innermost_backend(callback).__module__ == late.CAPTURES))
                if self._stance is not None and frames._stance is thrown:
                    frames._stance = before
                    _when_left(caller, put_back)
                return way(callback)
            found = way(callback)
            if found is None:
                if self._met is not None:
                    self._met()
            elif self._hidden is not None:
                _when_left(caller, self._hidden(False))
            return found

        self._listening = patch.object(frames, late.CALLBACK_FROM_STANCE, asked)
        self._listening.__enter__()


def _is_of_torch(caller: FrameType, callback: Any) -> bool:
    """Whether torch compiled a function for itself; ``caller`` is the frame that asked which way to go."""
    home = getattr(late.innermost_backend(callback), "__module__", "")
    if home == late.CAPTURES and caller.f_back is not None:
        return any(each in caller.f_back.f_code.co_filename for each in late.HIGHER_ORDER_FILES)
    return home == late.RECORDS


def _when_left(caller: FrameType, undo: Undo) -> None:
    """Call something when a compiled function has ended: torch calls all in ``cleanups`` then, also after an error."""
    cleanups = caller.f_locals.get("cleanups")
    if cleanups is None:
        cleanups = getattr(caller.f_locals.get("self"), "cleanup_fns", None)  # the compiler entered as a context
    if cleanups is None:
        undo()
    else:
        cleanups.insert(0, undo)
