"""Which lines of Python asked for something: those outside torch, this package and the standard library."""

from __future__ import annotations

import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path
from types import FrameType

import torch

from pytest_flopguard.core.owners import CALLED_BY

# Of one place; models that call themselves would have no end.
MOST_LINES = 8
_LIBRARIES = ("site-packages", "dist-packages")
# Whose frames are below every test: what called the test is no part of the program.
_RUNNERS = ("_pytest/", "pluggy/")
_HIDDEN = tuple(
    f"{each}/"
    for each in (Path(torch.__file__).parent, Path(__file__).parent.parent, Path(sysconfig.get_path("stdlib")))
)


class CodeSites:
    """Names lines of code; paths are told as seen from a root folder, those of installed packages from theirs."""

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()
        self._shown: dict[str, str] = {}  # how a file is told, empty where it is passed over

    def here(self) -> str:
        """Return the line that runs now and those that called it, the innermost first, empty where no user's code does.

        Each is told as ``"model.py:41 in forward"``, with CALLED_BY between them.
        """
        frame: FrameType | None = sys._getframe(1)
        lines: list[str] = []
        while frame is not None and len(lines) < MOST_LINES:
            code = frame.f_code
            shown = self._shown.get(code.co_filename)
            if shown is None:
                shown = self._shown[code.co_filename] = self._show(code.co_filename)
            if shown.startswith(_RUNNERS):
                break
            if shown:
                lines.append(f"{shown}:{frame.f_lineno} in {code.co_name}")
            frame = frame.f_back
        return CALLED_BY.join(lines)

    def tell(self, frames: Iterable[tuple[str, int, str]]) -> str:
        """Return in the same words what somebody else found, as files, lines and names, the innermost first."""
        lines: list[str] = []
        for filename, line, name in frames:
            shown = self._show(filename)
            if shown.startswith(_RUNNERS) or len(lines) == MOST_LINES:
                break
            if shown:
                lines.append(f"{shown}:{line} in {name}")
        return CALLED_BY.join(lines)

    def _show(self, filename: str) -> str:
        # "<frozen runpy>" and "<string>" are no files.
        if filename.startswith("<") or filename.endswith((".cpp", ".cu", ".h", ".so", "??")):
            return ""
        path = Path(filename)
        if filename.startswith(_HIDDEN[:2]):
            return ""
        # Packages first: an environment may stand in the project's own folder, or in that of the standard library.
        libraries = [at for at, part in enumerate(path.parts) if part in _LIBRARIES]
        if libraries:
            return Path(*path.parts[libraries[-1] + 1 :]).as_posix()
        if filename.startswith(_HIDDEN[2]):
            return ""
        return (path.relative_to(self._root) if path.is_relative_to(self._root) else path).as_posix()
