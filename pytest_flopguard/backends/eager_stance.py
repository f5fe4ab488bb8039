"""Compiled functions run as they are written while op calls are watched, since a compiled kernel hides its ops.

torch has a switch for this. Without it, torch meets a compiled function under a dispatch mode, marks it as not to be
compiled for the rest of the process, and refuses one that says ``fullgraph=True``.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any
from unittest.mock import patch

import torch

_COMPILER = "torch._dynamo"
# Asked by every call of a compiled function which way to go.
_ASKED = "_callback_from_stance"


class EagerStance:
    """The switch, thrown on entry; later where the compiler is not loaded, since loading it takes seconds.

    ``met`` is called for each call of a compiled function.
    """

    def __init__(self, met: Callable[[], None] | None = None) -> None:
        self._met = met
        self._stance: Any = None
        self._listening: Any = None
        self._warnings = warnings.catch_warnings()

    def __enter__(self) -> EagerStance:
        self._warnings = warnings.catch_warnings()
        self._warnings.__enter__()
        # The hooks are ours, and do not mind to be called for the model and for what wraps it.
        warnings.filterwarnings("ignore", "Using `torch.compile.module.` when there are global hooks")
        if _COMPILER in sys.modules:
            self._throw()
        else:
            sys.meta_path.insert(0, self)  # a finder needs find_spec only
        return self

    def __exit__(self, *exc: object) -> None:
        if self in sys.meta_path:
            sys.meta_path.remove(self)
        if self._listening is not None:
            self._listening.__exit__(*exc)
            self._listening = None
        if self._stance is not None:
            self._stance.__exit__(*exc)
            self._stance = None
        self._warnings.__exit__(None, None, None)

    def _throw(self) -> None:
        # Takes effect at once; leaving it as a context puts back what was there before.
        self._stance = torch.compiler.set_stance("force_eager")
        if self._met is not None:
            self._listening = self._listen(self._met)

    def _listen(self, met: Callable[[], None]) -> Any:
        frames: Any = importlib.import_module(f"{_COMPILER}.eval_frame")
        way = getattr(frames, _ASKED, None)
        if way is None:  # a torch that asks in another way: some call may be one
            met()
            return None

        def asked(callback: Any) -> Any:
            if callable(callback):
                met()
            return way(callback)

        listening = patch.object(frames, _ASKED, asked)
        listening.__enter__()
        return listening

    def find_spec(self, name: str, path: object = None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Find the compiler as everybody else does, and throw the switch once it is loaded."""
        if name != _COMPILER:
            return None
        sys.meta_path.remove(self)
        spec = find_spec(name)
        if spec is not None and spec.loader is not None:
            loader: Any = spec.loader
            own = vars(loader).pop("exec_module", None)  # another stance's, around this one
            run = own or loader.exec_module

            def load(module: ModuleType) -> None:
                vars(loader).pop("exec_module", None)  # the class's own shows again
                run(module)
                self._throw()

            loader.exec_module = load
        return spec
