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
    """Read one side; UsageError where it has no number, since nothing can be compared with it."""
    path = Path(given)
    if not given:
        raise _refused(given, "it is empty")
    if path.is_dir():
        found, empty = sides.of_folder(path), "there is no baseline below this directory"
    elif path.is_file():
        found, empty = sides.of_report(json_file.load(path)), "no test in this report was measured to its end"
    else:
        found, empty = _revision(given), f"no baseline is committed there below {Path.cwd()}"
    if not found:
        raise _refused(given, empty)
    return found


def _revision(given: str) -> sides.Side:
    before, dots, now = given.partition("...") if "..." in given else given.partition("..")
    # No name of git has two dots; a path out of this directory has them next to a slash.
    if dots and not before.endswith("/") and not now.startswith("/") and given != "..":
        ends = f"flopguard compare {before or 'HEAD'} {now or 'HEAD'}"
        raise _refused(given, f"it is a range of revisions: give its ends as two arguments, {ends}")
    try:
        return sides.of_revision(sides.commit_of(given, Path()), Path())
    except sides.GitError as error:
        raise _refused(given, f"it is not a file or a directory, and git reports: {error}") from error


def _refused(given: str, reason: str) -> UsageError:
    return UsageError([problem("bad-comparison", "command line", side=given, reason=reason)])
