"""``flopguard formulas``: what is known of ops."""

from __future__ import annotations

import argparse
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from pytest_flopguard.core.errors import nearest
from pytest_flopguard.formulas.registry import default_registry
from pytest_flopguard.reporters.table import Column, Row, lay_out

if TYPE_CHECKING:
    from argparse import _SubParsersAction

_COLUMNS = tuple(Column(header=name, right=False) for name in ("op", "kind", "defined in", "what"))


def add_to(commands: _SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "formulas",
        help="list the ops that have a formula or a class",
        description="List the built-in op formulas, and the ops that are free or uncounted. What a conftest.py adds "
        "is known to pytest only.",
    )
    parser.add_argument("pattern", nargs="?", default="*", metavar="PATTERN", help="part of an op's name, or a glob")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the rows whose op fits the pattern; 1 if none does."""
    entries = list(default_registry().entries())
    pattern = options.pattern if set(options.pattern) & set("*?[") else f"*{options.pattern}*"
    fitting = [each for each in entries if fnmatchcase(each.op, pattern)]
    if not fitting:
        print(f"no op fits {options.pattern!r}{nearest(options.pattern, [each.op for each in entries])}")
        return 1
    rows = [Row(cells=(each.op, each.kind, each.source, each.summary)) for each in fitting]
    print("\n".join(lay_out(_COLUMNS, rows)))
    return 0
