"""``flopguard github run | publish | merge | fork-comment``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from argparse import _SubParsersAction

COMMENT = ("never", "on-change", "always")
FAIL_ON = ("budget", "regression", "undecided")


def add_to(commands: _SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "github",
        help="run and publish in a job of GitHub Actions",
        description="Run and publish in a job of GitHub Actions. The job is read from GITHUB_* variables.",
    )
    steps = parser.add_subparsers(metavar="STEP", required=True)
    run = steps.add_parser("run", help="run pytest and publish, steered by FLOPGUARD_* variables")
    run.set_defaults(run=_later)
    publish = steps.add_parser("publish", help="publish a report that pytest --flop-report saved")
    publish.add_argument("--report", required=True, type=Path, metavar="FILE.json")
    publish.add_argument("--base", type=Path, metavar="FILE.json", help="the report to compare with")
    _shared(publish, "default")
    publish.add_argument("--fail-on", choices=FAIL_ON, default="budget")
    publish.set_defaults(run=_later)
    merge = steps.add_parser("merge", help="publish the reports of several jobs as one")
    merge.add_argument("reports", nargs="+", type=Path, metavar="DIR_OR_FILE")
    _shared(merge, "merged")
    merge.set_defaults(run=_later)
    fork = steps.add_parser("fork-comment", help="comment on the pull request of a workflow_run event")
    fork.add_argument("--report", required=True, type=Path, metavar="FILE.json")
    fork.add_argument("--id", default="default")
    fork.add_argument("--comment", choices=COMMENT, default="on-change")
    fork.set_defaults(run=_later)


def _shared(parser: argparse.ArgumentParser, name: str) -> None:
    parser.add_argument("--id", default=name, help="tells comments of one pull request apart")
    parser.add_argument("--comment", choices=COMMENT, default="on-change")
    parser.add_argument("--summary", choices=("true", "false"), default="true")


def _later(options: argparse.Namespace) -> int:
    raise NotImplementedError
