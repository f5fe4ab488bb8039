"""What the action was asked to do, from FLOPGUARD_* variables."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from pytest_flopguard.core.errors import Problem, UsageError, nearest, problem
from pytest_flopguard.reporters.github_comment import DEFAULT_ID, ID

CompareTo = Literal["none", "base", "base-run"]
Comment = Literal["never", "on-change", "always"]
FailOn = Literal["budget", "regression", "undecided"]
COMPARE_TO: tuple[CompareTo, ...] = get_args(CompareTo)
COMMENT: tuple[Comment, ...] = get_args(Comment)
FAIL_ON: tuple[FailOn, ...] = get_args(FailOn)
ID_RULE = "1 to 64 letters, digits and . _ / -"


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """The inputs of a run; an empty variable is one that is not set.

    ``compare_to`` ``"base"`` reads the baselines of the merge base, ``"base-run"`` measures it. ``fail_on`` says what
    fails the job: ``"budget"`` what fails pytest, ``"regression"`` also numbers that rose against what the run is
    compared with, ``"undecided"`` also what nobody could decide.
    """

    working_directory: Path
    args: tuple[str, ...] = ()
    name: str = DEFAULT_ID
    compare_to: CompareTo = "none"
    comment: Comment = "on-change"
    summary: bool = True
    fail_on: FailOn = "budget"


def read_inputs(environment: Mapping[str, str], workspace: Path) -> Inputs:
    """Read the variables; UsageError with all that is wrong in them."""
    problems: list[Problem] = []
    given = {name: environment.get(f"FLOPGUARD_{name.replace('-', '_').upper()}", "") for name in _NAMES}

    def wrong(name: str, expected: str, hint: str = "") -> None:
        problems.append(problem("bad-value", "input", name=name, value=given[name], expected=expected, hint=hint))

    def choose(name: str, choices: tuple[str, ...]) -> str:
        chosen = given[name] or _DEFAULTS[name]
        if chosen not in choices:
            wrong(name, " or ".join(choices), nearest(chosen, choices))
        return chosen

    folder = workspace / (given["working-directory"] or ".")
    # Path.is_dir raises for what no file can be named.
    if not os.path.isdir(folder):
        wrong("working-directory", "a folder that is there")
    if given["id"] and not ID.fullmatch(given["id"]):
        wrong("id", ID_RULE)
    try:
        args = tuple(shlex.split(given["args"]))
    except ValueError as error:
        wrong("args", f"arguments quoted as for a shell ({error})")
        args = ()
    chosen = {name: choose(name, choices) for name, choices in _CHOICES.items()}
    if problems:
        raise UsageError(problems)
    return Inputs(
        working_directory=folder,
        args=args,
        name=given["id"] or DEFAULT_ID,
        compare_to=next(each for each in COMPARE_TO if each == chosen["compare-to"]),
        comment=next(each for each in COMMENT if each == chosen["comment"]),
        summary=chosen["summary"] == "true",
        fail_on=next(each for each in FAIL_ON if each == chosen["fail-on"]),
    )


_CHOICES: Mapping[str, tuple[str, ...]] = {
    "compare-to": COMPARE_TO,
    "comment": COMMENT,
    "summary": ("true", "false"),
    "fail-on": FAIL_ON,
}
_DEFAULTS = {"compare-to": "none", "comment": "on-change", "summary": "true", "fail-on": "budget"}
_NAMES = ("working-directory", "args", "id", *_CHOICES)
