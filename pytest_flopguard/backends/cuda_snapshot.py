"""Writes what the CUDA allocator recorded to a file that PyTorch's memory viewer opens. Nothing here reads one."""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any

VIEWER = "https://docs.pytorch.org/memory_viz"
_LONGEST = 120


def write_snapshot(snapshot: dict[str, Any], path: Path) -> bool:
    """Write a snapshot as ``torch.cuda.memory._dump_snapshot`` does; false where it holds no event of any device."""
    if not any(snapshot.get("device_traces") or ()):
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    # The folder is nobody's source: it stays out of a repository without anybody's doing.
    (path.parent / ".gitignore").write_text("*\n", encoding="utf-8")
    with path.open("wb") as file:
        pickle.dump(snapshot, file)
    return True


def file_name(nodeid: str) -> str:
    """Return a file name for a test, which every file system takes."""
    return re.sub(r"[^\w.-]+", "-", nodeid).strip("-.")[-_LONGEST:] + ".pickle"
