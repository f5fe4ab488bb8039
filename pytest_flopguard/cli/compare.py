"""``flopguard compare``: two reports, revisions or folders side by side."""

from __future__ import annotations

import argparse
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_flopguard.budgets.baseline_file import FOLDER, BaselineFile, module_of, parse_baselines, read_baselines
from pytest_flopguard.budgets.baselines import blocks_of
from pytest_flopguard.core.baseline import Baseline, baseline_of
from pytest_flopguard.core.comparison import Place, compare
from pytest_flopguard.core.errors import UsageError, problem
from pytest_flopguard.core.record import Record
from pytest_flopguard.reporters import comparison, json_file

if TYPE_CHECKING:
    from argparse import _SubParsersAction

_FORMATS = {"text": comparison.text, "markdown": comparison.markdown, "json": comparison.document}


def add_to(commands: _SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "compare",
        help="compare two reports, or the baselines of two revisions",
        description="Compare the numbers of A with those of B, test by test, and name the modules that differ. A and B "
        "are report files that --flop-report saved, revisions of git whose baselines are read, or folders with them.",
    )
    parser.add_argument("before", metavar="A")
    parser.add_argument("now", metavar="B")
    parser.add_argument("--fail", action="store_true", help="exit with 1 on a regression, or where nobody can tell")
    parser.add_argument("--format", choices=tuple(_FORMATS), default="text", help="text, markdown or json")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the comparison; 1 if something is worse or undecided and ``--fail`` was given."""
    found = compare(_side(options.before), _side(options.now))
    print(_FORMATS[options.format](found, options.before, options.now))
    return int(options.fail and any(each.fails for each in found))


def _side(given: str) -> dict[Place, Baseline]:
    path = Path(given)
    if path.is_dir():
        files = (read_baselines(each, each.as_posix()) for each in sorted(path.rglob(f"{FOLDER}/*.toml")))
        return dict(_entries(files, path))
    if path.is_file():
        return _report(path)
    commit = _git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{given}^{{commit}}").decode().strip()
    if not commit:
        told = "it is no file, no folder, and no revision of git here"
        raise UsageError([problem("bad-comparison", "command line", side=given, reason=told)])
    return dict(_entries(_revision(commit), Path()))


def _report(path: Path) -> dict[Place, Baseline]:
    saved = json_file.load(path)
    torch = str(saved.environment.get("torch", ""))
    tests: dict[str, list[Record]] = {}
    for record in saved.records:
        tests.setdefault(record.nodeid, []).append(record)
    found: dict[Place, Baseline] = {}
    for nodeid, records in tests.items():
        # A test that failed on the way did a part of its work: that is no number to compare.
        for (_, region), record in zip(blocks_of(records), records, strict=True):
            if record.complete:
                found[nodeid, region] = baseline_of(record.measurement, torch)
    return found


def _revision(commit: str) -> Iterator[BaselineFile]:
    """Yield the baseline files of a commit, below the folder that this was started in."""
    listed = _git("ls-tree", "-r", "-z", "--name-only", commit).decode()
    for name in listed.split("\0"):
        path = Path(name)
        if path.parent.name == FOLDER and path.suffix == ".toml":
            yield parse_baselines(_git("show", f"{commit}:./{name}"), path, f"{commit[:12]}:{name}")


def _entries(files: Iterator[BaselineFile], root: Path) -> Iterator[tuple[Place, Baseline]]:
    for file in files:
        module = module_of(file.path.relative_to(root))
        for (test, region), baseline in file.entries.items():
            yield (f"{module}::{test}", region), baseline


def _git(*arguments: str) -> bytes:
    """Return what git prints, nothing where it fails or is not there."""
    try:
        return subprocess.run(["git", *arguments], check=False, capture_output=True).stdout
    except OSError:
        return b""
