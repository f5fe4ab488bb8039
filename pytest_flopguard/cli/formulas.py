"""``flopguard formulas``: what is known of ops, architectures, memory, scaling and hardware."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from pytest_flopguard.core.errors import nearest
from pytest_flopguard.core.gpu_names import gpu_name
from pytest_flopguard.formulas.catalogue import Row, catalogue
from pytest_flopguard.reporters import catalogue_table

if TYPE_CHECKING:
    from argparse import _SubParsersAction


def add_to(commands: _SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "formulas",
        help="list closed forms, known models and ops; show one",
        description="List the closed forms of architectures, memory, scaling and hardware, the models that are known "
        "by name, and the ops that have a formula or a class. One name shows its equation, its source and where it is "
        "written. What a conftest.py adds is known to pytest only.",
    )
    parser.add_argument(
        "name", nargs="?", default="*", metavar="NAME", help="a name, a part of one, or a glob; all by default"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the rows whose name fits, or all of the one that is named; 1 if none does."""
    rows = list(catalogue())
    fitting = _fitting(rows, options.name) or _fitting(rows, gpu_name(options.name))
    if not fitting:
        hint = nearest(options.name, [each.name for each in rows])
        print(f"no formula fits {options.name!r}{hint}")
        return 1
    if options.json:
        print(json.dumps({"format_version": 1, "formulas": [asdict(each) for each in fitting]}, indent=2))
    elif len(fitting) == 1:
        print(catalogue_table.render_one(fitting[0]))
    else:
        print(catalogue_table.render(fitting))
    return 0


def _fitting(rows: Sequence[Row], name: str) -> list[Row]:
    """Return the row of this name, or the one whose name ends in it after a dot, or all that the pattern fits."""
    for exact in (
        [each for each in rows if each.name == name],
        [each for each in rows if each.name.rpartition(".")[2] == name],
    ):
        if len(exact) == 1:
            return exact
    pattern = name if set(name) & set("*?[") else f"*{name}*"
    return [each for each in rows if fnmatchcase(each.name, pattern)]
