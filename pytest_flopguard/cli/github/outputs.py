"""The outputs of a step, and lines in its log."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from uuid import uuid4

from pytest_flopguard.reporters.workflow_command import Level, annotation, log_line


def write_outputs(file: Path | None, values: Mapping[str, object]) -> None:
    """Append values to the file that GITHUB_OUTPUT names; nothing where there is none."""
    if file is None:
        return
    # Whatever stands in a value cannot guess where the runner takes it to end.
    end = f"flopguard_{uuid4().hex}"
    text = "".join(f"{name}<<{end}\n{value}\n{end}\n" for name, value in values.items())
    with file.open("a", encoding="utf-8", newline="\n") as stream:
        stream.write(text)


def say(told: str) -> None:
    """Write a line into the log."""
    write(f"{log_line(told)}\n")


def tell(level: Level, told: str, title: str = "flopguard") -> None:
    """Write an annotation that belongs to no file."""
    write(f"{annotation(level, told, title=title)}\n")


def write(text: str) -> None:
    """Write lines, and at once, since other processes write there too."""
    # Names may hold what the log's encoding has not.
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))
    sys.stdout.flush()
