"""The releases of other libraries that the guard was tested with, and what to report of a newer one."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from importlib import metadata
from types import MappingProxyType

# Minor releases, oldest first. docs/explanation/releases.md has the same table, and what was run on each.
TESTED: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "torch": ("2.11", "2.12", "2.13", "2.14", "2.15"),
        "transformers": ("5.20", "5.21", "5.22", "5.23", "5.24"),
        "pytest": ("9.2",),
    }
)


def newer_releases(installed: Callable[[str], str] = metadata.version) -> Iterator[str]:
    """Yield a sentence for each installed library whose release is newer than the newest tested one."""
    for name, tested in TESTED.items():
        try:
            version = installed(name)
        except metadata.PackageNotFoundError:
            continue
        if _release(version) > _release(tested[-1]):
            yield f"{name} {version.partition('+')[0]} is newer than the newest tested release, {tested[-1]}"


def _release(version: str) -> tuple[int, ...]:
    # A patch release of a tested minor release is taken as tested, and a development version as its release.
    return tuple(map(int, re.findall(r"\d+", version)[:2]))
