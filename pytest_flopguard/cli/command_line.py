"""What ``flopguard`` understands, and its exit codes."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from pytest_flopguard import __version__
from pytest_flopguard.cli import compare, context, estimate, explain, formulas, frontier, init, memory, report
from pytest_flopguard.cli.github import command as github
from pytest_flopguard.core.errors import FlopguardError

OK, NOT_MET, USAGE = 0, 1, 2
_COMMANDS = (init, report, compare, formulas, estimate, memory, context, frontier, explain, github)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code: 0 fine, 1 not met, 2 wrong usage."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    # Split before argparse, which would take "-k" after "--" for an option of ours.
    at = given.index("--") if "--" in given else len(given)
    options = _parser().parse_args(given[:at])
    options.rest = given[at + 1 :]
    try:
        code = int(options.run(options))
        sys.stdout.flush()
    except FlopguardError as error:
        print(f"flopguard: {error}", file=sys.stderr)
        return USAGE
    except BrokenPipeError:
        # The reader (head, less) has seen enough.
        _close_output()
        return NOT_MET
    except OSError as error:
        # Commands tell of the files that they read or write themselves: what is left is the output.
        _close_output()
        print(f"flopguard: cannot write the output: {error.strerror or error}", file=sys.stderr)
        return USAGE
    return code


def _close_output() -> None:
    """Let nothing more be written while Python shuts down."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="flopguard",
        description="FLOP and peak-memory budgets for torch models. The guard itself is a pytest plugin: "
        "pytest --flop-budget.",
        epilog="Exit codes: 0 fine, 1 a budget is not met or nothing matches, 2 wrong usage.",
    )
    parser.add_argument("--version", action="version", version=f"flopguard {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in _COMMANDS:
        command.add_to(commands)
    return parser
