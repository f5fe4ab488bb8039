"""A plugin of pytest for runs of another tree: tells which modules came from this checkout after all."""

from __future__ import annotations

import os
import sys
from pathlib import Path

# The checkout, and the file that names go to; xdist's workers add theirs.
TREE = "FLOPGUARD_OTHER_TREE"
FILE = "FLOPGUARD_STRAYS"
_ENVIRONMENTS = ("site-packages", "dist-packages")


def pytest_sessionfinish() -> None:
    """Write the names of modules that were imported from the checkout."""
    top = Path(os.environ[TREE])
    found = [
        name for name, module in list(sys.modules.items()) if _strayed(name, getattr(module, "__file__", None), top)
    ]
    if found:
        with open(os.environ[FILE], "a", encoding="utf-8") as stream:
            stream.write("".join(f"{name}\n" for name in found))


def is_installed(path: Path) -> bool:
    """Whether a path lies in an environment, or in the standard library."""
    return any(each in path.parts for each in _ENVIRONMENTS) or path.is_relative_to(Path(sys.base_prefix).resolve())


def _strayed(name: str, file: object, top: Path) -> bool:
    # The guard itself measures both trees.
    if not isinstance(file, str) or name.partition(".")[0] == "pytest_flopguard":
        return False
    path = Path(file).resolve()
    return path.is_relative_to(top) and not is_installed(path)
