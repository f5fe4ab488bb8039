"""A plugin of pytest for runs of another tree: tells which modules came from this checkout after all."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from pytest_flopguard.cli.github.installed_copies import is_environment

# The checkout, the import names of its installed copies, and the file that names go to; xdist's workers add theirs.
TREE = "FLOPGUARD_OTHER_TREE"
COPIES = "FLOPGUARD_COPIES"
FILE = "FLOPGUARD_STRAYS"


def pytest_sessionfinish() -> None:
    """Write the names of modules that were imported from the checkout."""
    top, copies = Path(os.environ[TREE]), frozenset(os.environ[COPIES].split())
    found = [
        name
        for name, module in list(sys.modules.items())
        if _strayed(name, getattr(module, "__file__", None), top, copies)
    ]
    if found:
        with open(os.environ[FILE], "a", encoding="utf-8") as stream:
            stream.write("".join(f"{name}\n" for name in found))


def is_installed(path: Path) -> bool:
    """Whether a path lies in an environment, or in the standard library."""
    return is_environment(path) or path.is_relative_to(Path(sys.base_prefix).resolve())


def _strayed(name: str, file: object, top: Path, copies: frozenset[str]) -> bool:
    # The guard itself measures both trees.
    package = name.partition(".")[0]
    if not isinstance(file, str) or package == "pytest_flopguard":
        return False
    path = Path(file).resolve()
    if is_installed(path):
        return package in copies and is_environment(path)
    return path.is_relative_to(top)
