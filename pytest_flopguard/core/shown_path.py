"""How node ids and messages name a file: from the root directory, with slashes."""

from __future__ import annotations

import os
from pathlib import Path


def shown_path(path: Path, root: Path) -> str:
    """Return a file's path from ``root``, with ``..`` where it is outside; two files never have one name.

    Symbolic links are kept, so a module that two projects link to is a module of each. They are followed only where a
    link is what separates the root directory from the file. On another drive of Windows the whole path is returned.
    """
    if path.is_relative_to(root):
        return path.relative_to(root).as_posix()
    real, real_root = Path(os.path.realpath(path)), Path(os.path.realpath(root))
    if real.is_relative_to(real_root):
        return real.relative_to(real_root).as_posix()
    try:
        return Path(os.path.relpath(path, root)).as_posix()
    except ValueError:
        return path.as_posix()
