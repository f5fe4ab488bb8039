"""``flopguard report``: the table of a saved report."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_flopguard.core.standing import fails, standings
from pytest_flopguard.reporters import json_file, terminal

if TYPE_CHECKING:
    from argparse import _SubParsersAction


def add_to(commands: _SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "report",
        help="print the table of a saved report",
        description="Print the table of a report that pytest --flop-report=FILE.json saved. "
        "Exits 1 if a test in it failed.",
    )
    parser.add_argument("file", type=Path, metavar="FILE.json")
    parser.add_argument("-q", "--quiet", action="count", default=0, help="one line per record that failed")
    parser.add_argument("-v", "--verbose", action="count", default=0, help="one row per finding; -vv: everything")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the report; 1 if a test in it failed."""
    saved = json_file.load(options.file)
    width = shutil.get_terminal_size().columns
    print(terminal.render(saved, verbosity=options.verbose - options.quiet, width=width))
    return int(any(map(fails, saved.records, standings(saved.records))))
