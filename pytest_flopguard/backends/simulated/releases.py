"""Releases of torch, for what a GPU does by release: kernels that are chosen, workspaces, the cuDNN it comes with."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from importlib.metadata import version
from types import MappingProxyType

Release = tuple[int, int]

# Their sources, headers and CUDA wheels were read.
READ: tuple[Release, ...] = ((2, 11), (2, 12), (2, 13), (2, 14), (2, 15))

# What the default wheels on PyPI require: nvidia-cudnn-cu13 9.19.0, 9.20.0 twice, 9.24.0 and 9.26.0.
_CUDNN: Mapping[Release, int] = MappingProxyType(
    {(2, 11): 91_900, (2, 12): 92_000, (2, 13): 92_000, (2, 14): 92_400, (2, 15): 92_600}
)


@functools.cache  # reads a file, and each attention of a model asks
def installed() -> Release:
    """Return the release of torch that is installed: ``(2, 13)`` of ``2.13.0+cpu``."""
    found = re.match(r"(\d+)\.(\d+)", version("torch"))
    return (int(found[1]), int(found[2])) if found else READ[-1]


def cudnn_of(release: Release) -> int:
    """Return the cuDNN of a release's default wheel as ``cudnn.version()`` tells it, 92000; the newest if not known."""
    return _CUDNN.get(release, max(_CUDNN.values()))


def unread(release: Release) -> str | None:
    """Say what is assumed of the GPU's side of a release, None where it was read."""
    if release in READ:
        return None
    newest = ".".join(map(str, READ[-1]))
    return f"kernels and workspaces of torch {'.'.join(map(str, release))} are those of {newest}, the newest known"
