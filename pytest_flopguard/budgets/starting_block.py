"""The settings that a new project begins with: a table that turns the guard on, and a word on every other option."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from textwrap import wrap

from pytest_flopguard.budgets.options import OPTIONS, Option
from pytest_flopguard.budgets.settings import has_table, load_settings
from pytest_flopguard.core.errors import UsageError
from pytest_flopguard.core.whole_file import write_whole

_WIDTH = 100


def add_block(file: Path) -> str:
    """Add the table to a pyproject.toml, or make the file; return what was done. A table that is there stays.

    UsageError where the file is wrong, before or with the table in it; it is then as it was.
    """
    if file.is_file():
        load_settings(file.absolute().parent, {})
        if has_table(file):
            return "it has settings already, and keeps them"
    # Line ends stay as they are.
    before = file.read_bytes().decode("utf-8") if file.is_file() else ""
    joint = "" if not before else "\n" if before.endswith("\n") else "\n\n"
    write_whole(file, before + joint + block())
    try:
        load_settings(file.absolute().parent, {})
    except UsageError:
        # "tool" may be written as an inline table, which nothing can be added to.
        write_whole(file, before)
        raise
    return "settings added"


def block() -> str:
    """Return the table as TOML: every option at its default is a comment."""
    return "\n".join(["[tool.flopguard]", *_lines()]) + "\n"


def _lines() -> Iterator[str]:
    for option in OPTIONS:
        if option.typed:
            continue
        yield from wrap(option.help, _WIDTH, initial_indent="# ", subsequent_indent="# ")
        if option.name == "enabled":
            yield "enabled = true"
        elif isinstance(option.default, dict):
            yield from _example(option)
        else:
            yield f"# {option.name} = {json.dumps(option.default)}"


def _example(option: Option) -> Iterator[str]:
    pattern = '."tests/test_model.py::test_forward"' if option.name == "budgets" else ""
    yield f"# [tool.flopguard.{option.name}{pattern}]"
    yield '# flops = "1 GFLOP"'
