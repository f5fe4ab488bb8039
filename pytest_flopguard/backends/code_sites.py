"""Which line of Python asked for something: the innermost one outside torch, this package and the standard library."""

from __future__ import annotations

import sys
import sysconfig
from pathlib import Path
from types import FrameType

import torch

_PACKAGES = tuple(Path(sysconfig.get_path(each)) for each in ("purelib", "platlib"))
_HIDDEN = tuple(
    f"{each}/"
    for each in (Path(torch.__file__).parent, Path(__file__).parent.parent, Path(sysconfig.get_path("stdlib")))
)


class CodeSites:
    """Names lines of code; paths are told as seen from a root folder, those of installed packages from theirs."""

    def __init__(self, root: Path) -> None:
        self._roots = (root.resolve(), *_PACKAGES)
        self._shown: dict[str, str] = {}  # how a file is told, empty where it is passed over

    def here(self) -> str:
        """Return the line that runs now as ``"model.py:41 in forward"``, empty where no user's code does."""
        frame: FrameType | None = sys._getframe(1)
        while frame is not None:
            code = frame.f_code
            shown = self._shown.get(code.co_filename)
            if shown is None:
                shown = self._shown[code.co_filename] = self._show(code.co_filename)
            if shown:
                return f"{shown}:{frame.f_lineno} in {code.co_name}"
            frame = frame.f_back
        return ""

    def tell(self, filename: str, line: int, name: str) -> str:
        """Return a line of code that somebody else found in the same words, empty where it is none of the user's."""
        shown = self._show(filename)
        return f"{shown}:{line} in {name}" if shown else ""

    def _show(self, filename: str) -> str:
        # "<frozen runpy>" and "<string>" are no files; the standard library's folder also holds installed packages.
        if filename.startswith("<") or filename.endswith((".cpp", ".cu", ".h", ".so", "??")):
            return ""
        path = Path(filename)
        installed = any(path.is_relative_to(each) for each in _PACKAGES)
        if filename.startswith(_HIDDEN[:2]) or (filename.startswith(_HIDDEN[2]) and not installed):
            return ""
        for root in self._roots:
            if path.is_relative_to(root):
                return path.relative_to(root).as_posix()
        return path.as_posix()
