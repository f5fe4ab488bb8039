"""``flopguard compare``: two reports, revisions or folders side by side."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_flopguard.cli import sides
from pytest_flopguard.core.comparison import compare
from pytest_flopguard.core.errors import UsageError, problem
from pytest_flopguard.reporters import comparison, json_file

if TYPE_CHECKING:
    from argparse import _SubParsersAction

_FORMATS = {"text": comparison.text, "markdown": comparison.markdown, "json": comparison.document}


def add_to(commands: _SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "compare",
        help="compare two reports, or the baselines of two revisions",
        description="Compare the numbers of A with those of B, test by test, and name the modules that differ. A and B "
        "are report files that --flop-report saved, revisions of git whose baselines are read, or folders with them.",
    )
    parser.add_argument("before", metavar="A")
    parser.add_argument("now", metavar="B")
    parser.add_argument("--fail", action="store_true", help="exit with 1 on a regression, or where nobody can tell")
    parser.add_argument("--format", choices=tuple(_FORMATS), default="text", help="text, markdown or json")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the comparison; 1 if something is worse or undecided and ``--fail`` was given."""
    found = compare(_side(options.before), _side(options.now))
    print(_FORMATS[options.format](found, options.before, options.now))
    return int(options.fail and any(each.fails for each in found))


def _side(given: str) -> sides.Side:
    path = Path(given)
    if path.is_dir():
        return sides.of_folder(path)
    if path.is_file():
        return sides.of_report(json_file.load(path))
    commit = sides.commit_of(given, Path())
    if not commit:
        told = "it is no file, no folder, and no revision of git here"
        raise UsageError([problem("bad-comparison", "command line", side=given, reason=told)])
    return sides.of_revision(commit, Path())
