"""``flopguard explain``: which budget holds for a test, and why."""

from __future__ import annotations

import argparse
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from argparse import _SubParsersAction


def add_to(commands: _SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "explain",
        help="say which budget holds for a test, and why",
        description="Say for each quantity which budget holds for a test, where it is written, and what lost to it. "
        "Runs pytest --flop-explain, and exits as it does.",
        usage="flopguard explain NODEID [-- PYTEST ARGUMENTS]",
    )
    parser.add_argument("nodeid", metavar="NODEID")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Let pytest collect the tests and explain; a signal that ended it becomes 128 plus its number."""
    command = [sys.executable, "-m", "pytest", "--flop-explain", options.nodeid, "-q", *options.rest]
    code = subprocess.run(command, check=False).returncode
    return code if code >= 0 else 128 - code
