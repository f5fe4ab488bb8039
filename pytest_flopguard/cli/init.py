"""``flopguard init``: settings with a word on each, and the first baseline."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_flopguard.budgets.starting_block import add_block

if TYPE_CHECKING:
    from argparse import _SubParsersAction


def add_to(commands: _SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "init",
        help="write the settings and the first baseline",
        description="Add a commented [tool.flopguard] table to pyproject.toml, which turns the guard on, and write the "
        "first baseline by pytest --flop-update=new. What is there already stays as it is.",
        usage="flopguard init [--no-baseline] [-- PYTEST ARGUMENTS]",
    )
    parser.add_argument("--no-baseline", action="store_true", help="write the settings only")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Write the settings, then run pytest; exits as pytest does."""
    file = Path("pyproject.toml")
    print(f"{file}: {add_block(file)}")
    sys.stdout.flush()
    if options.no_baseline:
        return 0
    command = [sys.executable, "-m", "pytest", "--flop-update=new", *options.rest]
    code = subprocess.run(command, check=False).returncode
    return code if code >= 0 else 128 - code
