"""The reports that several jobs left, by the names of those jobs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from pytest_flopguard.core.errors import Problem, UsageError, problem
from pytest_flopguard.core.record import RunReport
from pytest_flopguard.reporters import json_file


def load_all(given: Sequence[Path], *, none: bool = False) -> dict[str, RunReport]:
    """Read files, and all files in folders, each a report; UsageError with every one that is none.

    There must be one, but where ``none`` is allowed.
    """
    problems: list[Problem] = []
    found: dict[str, RunReport] = {}
    for name, path in _files(given):
        try:
            run = json_file.load(path)
        except UsageError as error:
            problems += error.problems
            continue
        unique, number = name, 1
        while unique in found:
            number += 1
            unique = f"{name} #{number}"
        found[unique] = run
    if not found and not problems and not none:
        shown = " ".join(map(str, given))
        expected = "files, or folders with files, that end with .json"
        problems.append(problem("bad-value", "command line", name="reports", value=shown, expected=expected, hint=""))
    if problems:
        raise UsageError(problems)
    return found


def _files(given: Sequence[Path]) -> Iterator[tuple[str, Path]]:
    for each in given:
        for path in sorted(each.rglob("*.json")) if each.is_dir() else [each]:
            # An artifact's files come in a folder with its name, and what the action saves is called report.json.
            name = path.with_suffix("") if path.stem != "report" else path.parent
            inside = name.relative_to(each) if each.is_dir() and name != each else Path(name.name)
            yield inside.as_posix(), path
