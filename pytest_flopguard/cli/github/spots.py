"""Where in the checkout a limit or a test is written, for annotations."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from pytest_flopguard.core.record import RunReport
from pytest_flopguard.core.verdict import Finding
from pytest_flopguard.reporters.github_annotations import Locate, Spot
from pytest_flopguard.reporters.github_entries import Entry


def root_of(run: RunReport, folder: Path, workspace: Path) -> Path:
    """Return the folder where node ids begin: the nearest one, from ``folder`` up, that has the tests' files."""
    files = {each.nodeid.partition("::")[0] for each in run.records}
    for root in (folder, *folder.parents):
        if all((root / each).is_file() for each in files):
            return root
        if root == workspace:
            break
    return folder


def locate(root: Path, workspace: Path) -> Locate:
    """Return what finds the spot of a finding: where its limit is written, else where its test is."""

    def spot(entry: Entry, finding: Finding | None) -> Spot:
        if finding is not None:
            origin = finding.expectation.origin
            file = _inside(root / origin.path, workspace)
            if file:
                return file, origin.line
        path, _, name = entry.record.nodeid.partition("::")
        file = _inside(root / path, workspace)
        return file, _line(root / path, name) if file else None

    return spot


def _inside(path: Path, workspace: Path) -> str:
    """Return a file's path below the workspace, empty for what is not there."""
    # A name that no file can have, from a report that anybody may have written.
    try:
        file, top = path.resolve(), workspace.resolve()
        return file.relative_to(top).as_posix() if file.is_relative_to(top) and file.is_file() else ""
    except (OSError, ValueError):
        return ""


@lru_cache
def _line(path: Path, name: str) -> int | None:
    """Return the line of a test's function, of its class where that is not found."""
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, SyntaxError):
        return None
    body: Sequence[ast.stmt] = tree.body
    line = None
    for part in name.partition("[")[0].split("::"):
        found = next((each for each in body if _is(each, part)), None)
        if not isinstance(found, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            break
        line, body = found.lineno, found.body
    return line


def _is(statement: ast.stmt, name: str) -> bool:
    return isinstance(statement, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and statement.name == name
