"""What a job's run is compared with: the baselines of the merge base, or a run of its tests."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from pytest_flopguard.cli.github import strays as strays_plugin
from pytest_flopguard.cli.github.inputs import Inputs
from pytest_flopguard.cli.github.installed_copies import installed_copies
from pytest_flopguard.cli.github.job import Job
from pytest_flopguard.cli.github.legs import Base
from pytest_flopguard.cli.github.merge_base import NoBaseError, merge_base
from pytest_flopguard.cli.github.outputs import say
from pytest_flopguard.cli.github.pytest_run import run_pytest
from pytest_flopguard.cli.sides import GitError, Side, git, of_report, of_revision
from pytest_flopguard.core.errors import UsageError, message


def find_base(job: Job, inputs: Inputs, root: Path, folder: Path) -> Base:
    """Return the base, with the reason where there is none; ``root`` is where node ids begin.

    A run of the base leaves its report as ``base.json`` in ``folder``.
    """
    try:
        commit = merge_base(job, root)
        name = f"base {commit[:12]}"
        if inputs.compare_to == "base-run":
            return Base(numbers=_measured(commit, inputs, folder), name=name, measured=True)
        numbers = of_revision(commit, root)
    except (NoBaseError, GitError) as error:
        return Base(note=message("no-base", reason=error))
    except UsageError as error:
        return Base(note=message("no-base", reason=error.problems[0]))
    if not numbers:
        reason = f"no baseline is committed at {commit[:12]}; pytest --flop-update=new writes the first"
        return Base(note=message("no-base", reason=reason))
    return Base(numbers=numbers, name=name)


def _measured(commit: str, inputs: Inputs, folder: Path) -> Side:
    """Run the tests of a commit in a tree of its own; NoBaseError where that gives no numbers of that tree."""
    here = inputs.working_directory.resolve()
    top = Path(git("rev-parse", "--show-toplevel", folder=here).strip())
    strays = folder / "strays.txt"
    with _tree(commit, top) as tree:
        there = tree / here.relative_to(top)
        if not there.is_dir():
            raise NoBaseError(f"{here.relative_to(top)} is not there at {commit[:12]}")
        say(f"measure the tests of {commit[:12]}")
        # What is installed in a way that imports from the checkout must be imported from the other tree.
        found = [tree / Path(each).resolve().relative_to(top) for each in sys.path if _is_source(each, top)]
        # So must what was installed from the checkout as a copy.
        copies = installed_copies(git("ls-files", "-z", folder=top).split("\0"), top)
        found += [tree / each for each in copies.values() if each]
        paths = dict.fromkeys(str(each) for each in (there, there / "src", tree, tree / "src", *found))
        environment = {
            "PYTHONPATH": os.pathsep.join([*paths, os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep),
            strays_plugin.TREE: str(top),
            strays_plugin.COPIES: " ".join(copies),
            strays_plugin.FILE: str(strays),
        }
        ended = run_pytest(there, ("-p", strays_plugin.__name__, *inputs.args), folder / "base.json", environment)
    if ended.report is None:
        raise NoBaseError(f"the tests of {commit[:12]} left no report: pytest ended with {ended.code}")
    if strays.exists():
        names = sorted(set(strays.read_text(encoding="utf-8").split()))
        raise NoBaseError(f"the tests of {commit[:12]} imported {', '.join(names[:3])} of this checkout instead")
    return of_report(ended.report)


def _is_source(path: str, top: Path) -> bool:
    """Whether a folder of sys.path is of the project, and not of an environment that lies inside it."""
    folder = Path(path or ".").resolve()
    return folder.is_relative_to(top) and not strays_plugin.is_installed(folder)


@contextmanager
def _tree(commit: str, top: Path) -> Iterator[Path]:
    """Check a commit out beside the working tree, and take that away again."""
    with TemporaryDirectory(prefix="flopguard-") as folder:
        tree = Path(folder).resolve() / "base"
        try:
            git("worktree", "add", "--detach", "--force", str(tree), commit, folder=top)
        except GitError as error:
            raise NoBaseError(f"git could not check {commit[:12]} out next to this checkout: {error}") from error
        try:
            yield tree
        finally:
            git("worktree", "remove", "--force", str(tree), folder=top)
