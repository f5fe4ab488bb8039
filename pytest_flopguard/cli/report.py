"""``flopguard report``: a saved report as a table, or as a file of another format."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_flopguard.core.errors import Problem, UsageError, problem
from pytest_flopguard.core.record import RunReport
from pytest_flopguard.core.standing import fails, standings
from pytest_flopguard.core.whole_file import write_whole
from pytest_flopguard.reporters import json_file, terminal
from pytest_flopguard.reporters.formats import FORMATS, Reporter, reporter_for
from pytest_flopguard.reporters.one_line import visible

if TYPE_CHECKING:
    from argparse import _SubParsersAction


def add_to(commands: _SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    kinds = ", ".join(sorted(FORMATS))
    parser = commands.add_parser(
        "report",
        help="print a saved report, or write it in another format",
        description="Print the table of a report that pytest --flop-report=FILE.json saved; exits 1 if a test in it "
        "failed. With -o, write it as a file instead, without running anything again; exits 0 once it is written.",
    )
    parser.add_argument("file", type=Path, metavar="FILE.json")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        action="append",
        default=[],
        metavar="PATH",
        help=f"write a file in place of the table; its end says how: {kinds}. May be given several times",
    )
    parser.add_argument("-q", "--quiet", action="count", default=0, help="one line per record that failed")
    parser.add_argument("-v", "--verbose", action="count", default=0, help="one row per finding; -vv: everything")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the report, 1 if a test in it failed; or write it to files, 0 if all of them are written."""
    reporters = [(path, reporter_for(str(path), "command line")) for path in options.output]
    saved = json_file.load(options.file)
    if reporters:
        _write(saved, reporters)
        return 0
    width = shutil.get_terminal_size().columns
    # The file may come from anywhere: nothing in it is for the terminal to obey.
    print(visible(terminal.render(saved, verbosity=options.verbose - options.quiet, width=width)))
    return int(any(map(fails, saved.records, standings(saved.records))))


def _write(saved: RunReport, reporters: list[tuple[Path, Reporter]]) -> None:
    problems: list[Problem] = []
    for path, reporter in reporters:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, reporter.render(saved))
            print(f"{path}: written")
        except (OSError, UnicodeEncodeError) as error:
            reason = (isinstance(error, OSError) and error.strerror) or error
            problems.append(problem("report-not-written", path, reason=reason))
    if problems:
        raise UsageError(problems)
