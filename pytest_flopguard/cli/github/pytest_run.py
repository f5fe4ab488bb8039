"""pytest with the guard on, as a process of its own, and the report that it leaves."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from pytest_flopguard.budgets.settings import load_settings
from pytest_flopguard.cli.github.outputs import write
from pytest_flopguard.core.errors import UsageError, message
from pytest_flopguard.core.record import RunReport
from pytest_flopguard.reporters import json_file

# The tests need no token, so they get none.
_KEPT_BACK = ("FLOPGUARD_TOKEN",)


@dataclass(frozen=True, slots=True, kw_only=True)
class PytestRun:
    """How pytest ended, the report's file, and the report; without one ``problem`` says why."""

    code: int
    file: Path
    report: RunReport | None = None
    problem: str = ""


def run_pytest(
    folder: Path, arguments: Sequence[str], file: Path, environment: Mapping[str, str] | None = None
) -> PytestRun:
    """Run pytest in a folder; its output goes to ours, and no command of a runner in it is obeyed."""
    own = [f"--flop-report={each}" for each in (*_wanted_reports(folder), file)]
    command = [sys.executable, "-m", "pytest", "--flop-budget", *arguments, *own]
    kept = {name: value for name, value in os.environ.items() if name not in _KEPT_BACK}
    resume = uuid4().hex
    write(f"::stop-commands::{resume}\n")
    try:
        ended = subprocess.run(command, cwd=folder, env={**kept, **(environment or {})}, check=False).returncode
    finally:
        # pytest may have left the last line unfinished.
        write(f"\n::{resume}::\n")
    code = ended if ended >= 0 else 128 - ended
    try:
        return PytestRun(code=code, file=file, report=json_file.load(file))
    except UsageError as error:
        reason = "its output above says why" if not file.exists() else str(error)
        return PytestRun(code=code, file=file, problem=message("no-report", status=code, reason=reason))


def _wanted_reports(folder: Path) -> tuple[Path, ...]:
    """Return the reports that the project's settings ask for: one named on the command line takes their place."""
    try:
        return load_settings(folder, {}).report
    except UsageError:
        # pytest tells it better, and with everything else that is wrong.
        return ()
