"""Does something as soon as a module is loaded, since loading it only for that would take seconds."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any


class LateModule:
    """Calls ``loaded`` on entry, or once the module is there; never, if it is not loaded before the exit."""

    def __init__(self, name: str, loaded: Callable[[ModuleType], None]) -> None:
        self._name = name
        self._loaded = loaded
        self._entered = False
        self._finding = False

    def __enter__(self) -> LateModule:
        self._entered = True
        module = sys.modules.get(self._name)
        # A module that is only half there is being imported by a caller: its loader is past our reach.
        if module is not None:
            self._loaded(module)
        else:
            sys.meta_path.insert(0, self)  # a finder needs find_spec only
        return self

    def __exit__(self, *exc: object) -> None:
        self._entered = False
        self._leave()

    def find_spec(self, name: str, path: object = None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Find the module as everybody else does, and go on once it is loaded."""
        # Some callers only ask whether a module is installed: the next one may import it.
        if name != self._name or self._finding:
            return None
        self._finding = True
        try:
            spec = find_spec(name)
        finally:
            self._finding = False
        if spec is not None and spec.loader is not None:
            loader: Any = spec.loader
            own = vars(loader).pop("exec_module", None)  # another one's, around this one
            run = own or loader.exec_module

            def load(module: ModuleType) -> None:
                vars(loader).pop("exec_module", None)  # the class's own shows again
                self._leave()
                run(module)
                if self._entered:
                    self._loaded(module)

            loader.exec_module = load
        return spec

    def _leave(self) -> None:
        if self in sys.meta_path:
            sys.meta_path.remove(self)
