"""What a comparison has on each side: the numbers of a report, of baselines in a folder, or of a revision of git."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

from pytest_flopguard.budgets.baseline_file import FOLDER, BaselineFile, module_of, parse_baselines, read_baselines
from pytest_flopguard.budgets.baselines import blocks_of
from pytest_flopguard.core.baseline import Baseline, baseline_of
from pytest_flopguard.core.comparison import Place
from pytest_flopguard.core.errors import FlopguardError
from pytest_flopguard.core.record import Record, RunReport

Side = dict[Place, Baseline]


class GitError(FlopguardError):
    """Git failed; the text is what it printed."""


def of_report(run: RunReport) -> Side:
    """Return the numbers of a run, without those of tests that failed on the way, which did a part of their work."""
    torch = str(run.environment.get("torch", ""))
    return {place: baseline_of(record.measurement, torch) for place, record in placed(run) if record.complete}


def placed(run: RunReport) -> list[tuple[Place, Record]]:
    """Name each record of a run by its test and region."""
    tests: dict[str, list[Record]] = {}
    for record in run.records:
        tests.setdefault(record.nodeid, []).append(record)
    return [
        ((nodeid, region), record)
        for nodeid, records in tests.items()
        for (_, region), record in zip(blocks_of(records), records, strict=True)
    ]


def of_folder(root: Path) -> Side:
    """Read the baselines below a folder, at which node ids begin."""
    files = (read_baselines(each, each.as_posix()) for each in sorted(root.rglob(f"{FOLDER}/*.toml")))
    return dict(_entries(files, root))


def of_revision(commit: str, folder: Path) -> Side:
    """Read the baselines of a commit below a folder of the working tree, at which node ids begin."""
    return dict(_entries(_files(commit, folder), Path()))


def commit_of(revision: str, folder: Path) -> str:
    """Return the hash of the one commit that a revision names; GitError where it names none that is here."""
    return git("rev-parse", "--verify", "--end-of-options", f"{revision}^{{commit}}", folder=folder).strip()


def git(*arguments: str, folder: Path) -> str:
    """Return what git prints; GitError with its own words where it fails."""
    return _output(arguments, folder).decode("utf-8", "replace")


def _files(commit: str, folder: Path) -> Iterator[BaselineFile]:
    listed = git("ls-tree", "-r", "-z", "--name-only", commit, folder=folder)
    for name in listed.split("\0"):
        path = Path(name)
        if path.parent.name == FOLDER and path.suffix == ".toml":
            raw = _output(("show", f"{commit}:./{name}"), folder)
            yield parse_baselines(raw, path, f"{commit[:12]}:{name}")


def _entries(files: Iterator[BaselineFile], root: Path) -> Iterator[tuple[Place, Baseline]]:
    for file in files:
        module = module_of(file.path.relative_to(root))
        for (test, region), baseline in file.entries.items():
            yield (f"{module}::{test}", region), baseline


def _output(arguments: tuple[str, ...], folder: Path) -> bytes:
    try:
        done = subprocess.run(["git", *arguments], cwd=folder, check=False, capture_output=True)
    except OSError as error:
        raise GitError(f"git cannot be run: {error.strerror or error}") from error
    if done.returncode:
        words = " ".join(done.stderr.decode("utf-8", "replace").split())
        raise GitError(words or f"git {arguments[0]} ended with {done.returncode}")
    return done.stdout
