"""Workflow commands, which a runner of GitHub Actions reads from a job's output: one line each, whatever they tell."""

from __future__ import annotations

from typing import Literal

from pytest_flopguard.reporters.one_line import one_line

Level = Literal["error", "warning", "notice"]
# The runner takes these back when it has found where a command's parts end.
_DATA = {ord("%"): "%25", ord("\r"): "%0D", ord("\n"): "%0A"}
_PROPERTY = {**_DATA, ord(":"): "%3A", ord(","): "%2C"}
_LONGEST = 4000


def annotation(level: Level, told: str, *, title: str = "", file: str = "", line: int | None = None) -> str:
    """Return the command that shows a message, beside a line of a file where there is one; lines of it stay lines."""
    # A name that cannot be seen cannot be shown beside its lines either.
    file = file if file.isprintable() else ""
    given = {"file": file, "line": "" if line is None or not file else str(line), "title": one_line(title, 200)}
    properties = ",".join(f"{name}={each.translate(_PROPERTY)}" for name, each in given.items() if each)
    lines = "\n".join(map(one_line, told.splitlines()))[:_LONGEST]
    return f"::{level}{f' {properties}' if properties else ''}::{lines.translate(_DATA)}"


def log_line(told: str) -> str:
    """Return a line of the log that the runner takes for no command, wherever in it one may stand."""
    # The older form of a command is found anywhere in a line.
    return f"flopguard: {one_line(told)}".replace("##[", "## [")
