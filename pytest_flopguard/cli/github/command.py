"""``flopguard github run | comment | publish | merge | fork-comment``."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_flopguard.cli.github import steps
from pytest_flopguard.cli.github.inputs import COMMENT, FAIL_ON, ID_RULE
from pytest_flopguard.cli.github.outputs import tell
from pytest_flopguard.core.errors import UsageError
from pytest_flopguard.reporters.github_comment import DEFAULT_ID, ID

if TYPE_CHECKING:
    from argparse import _SubParsersAction

_Step = Callable[[argparse.Namespace], int]


def add_to(commands: _SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "github",
        help="run and publish in a job of GitHub Actions",
        description="Run and publish in a job of GitHub Actions, which is read from GITHUB_* variables. The token is "
        "FLOPGUARD_TOKEN.",
    )
    there = parser.add_subparsers(metavar="STEP", required=True)
    _add(there, "run", steps.run, "run pytest and publish; the inputs are FLOPGUARD_* variables")
    step = _add(there, "comment", steps.comment, "send the comment that run saved where it had no token")
    step.add_argument("file", type=Path, metavar="COMMENT.json", help="what the output comment-json names")
    step = _add(there, "publish", steps.publish, "publish a report that pytest --flop-report saved")
    _report(step)
    step.add_argument("--base", type=Path, metavar="FILE.json", help="the report to compare with")
    _publishing(step, DEFAULT_ID)
    step.add_argument("--fail-on", choices=FAIL_ON, default="budget", help="what fails the job")
    step = _add(there, "merge", steps.merge, "publish the reports of several jobs as one")
    step.add_argument("reports", nargs="+", type=Path, metavar="DIR_OR_FILE", help="reports, or folders that hold them")
    step.add_argument(
        "--expect",
        action="append",
        default=[],
        metavar="NAME",
        help="a report that must be there, by its artifact's name; without it the step fails and says so. May be given "
        "several times",
    )
    _publishing(step, "merged")
    step = _add(
        there, "fork-comment", steps.fork_comment, "comment on the pull request that a workflow_run event is of"
    )
    _report(step)
    _commenting(step, DEFAULT_ID)


def _add(
    there: _SubParsersAction[argparse.ArgumentParser], name: str, step: _Step, told: str
) -> argparse.ArgumentParser:
    parser = there.add_parser(name, help=told, description=f"{told[0].upper()}{told[1:]}.")
    parser.set_defaults(run=_annotated(step))
    return parser


def _report(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--report", required=True, type=Path, metavar="FILE.json", help="the report")


def _publishing(parser: argparse.ArgumentParser, name: str) -> None:
    _commenting(parser, name)
    parser.add_argument(
        "--summary", choices=("true", "false"), default="true", help="whether to write the job's summary"
    )


def _commenting(parser: argparse.ArgumentParser, name: str) -> None:
    parser.add_argument("--id", type=_id, default=name, help="tells comments of one pull request apart")
    parser.add_argument("--comment", choices=COMMENT, default="on-change", help="when to comment")


def _id(text: str) -> str:
    if ID.fullmatch(text):
        return text
    raise argparse.ArgumentTypeError(f"{text!r}: expected {ID_RULE}")


def _annotated(step: _Step) -> _Step:
    """Return a step that shows its mistakes as annotations too."""

    def run(options: argparse.Namespace) -> int:
        try:
            return step(options)
        except UsageError as error:
            tell("error", str(error))
            raise

    return run
