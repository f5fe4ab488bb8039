"""The commit that a job's change starts at, in a checkout that may hold next to no history."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from pytest_flopguard.cli.github.job import Job
from pytest_flopguard.cli.sides import GitError, commit_of, git

# How far back to look for where two branches part, where the checkout does not reach so far.
_DEPTH = 500
_PATIENCE = 120.0


class NoBaseError(Exception):
    """There is no such commit here; the text is the reason."""


def merge_base(job: Job, folder: Path) -> str:
    """Return the hash of the commit, which is here; NoBaseError where there is none, or it cannot be had."""
    if not job.base:
        raise NoBaseError(f"a job for {job.event_name or 'no event'} starts at no other commit")
    try:
        head = commit_of("HEAD", folder)
    except GitError as error:
        advice = "check the repository out before, and name it a safe.directory where another user owns it"
        raise NoBaseError(f"git finds no commit here ({error}): {advice}") from error
    failed = ""
    found = _parent(job, folder) or _parting(head, job.base, folder)
    if not found:
        failed = _fetch(folder, _DEPTH, job.base, head)
        found = _parting(head, job.base, folder)
    if not found:
        advice = "check out with fetch-depth: 0"
        raise NoBaseError(f"the checkout does not reach back to {job.base[:12]}{failed}: {advice}")
    if not _is_here(found, folder):
        failed = _fetch(folder, 1, found)
    if not _is_here(found, folder):
        raise NoBaseError(f"the checkout does not hold {found[:12]}{failed}: check out with fetch-depth: 0")
    return found


def _is_here(commit: str, folder: Path) -> bool:
    try:
        return bool(commit_of(commit, folder))
    except GitError:
        return False


def _parent(job: Job, folder: Path) -> str:
    """Return the first parent of the merge that a pull request is tested as, empty where something else is."""
    head = job.event.get("pull_request", {}).get("head", {}).get("sha", "")
    # Unlike rev-parse this tells the parents of a commit in a shallow checkout too.
    lines = git("cat-file", "-p", "HEAD", folder=folder).partition("\n\n")[0].splitlines()
    parents = [line.removeprefix("parent ") for line in lines if line.startswith("parent ")]
    return parents[0] if len(parents) == 2 and head == parents[1] else ""


def _parting(head: str, base: str, folder: Path) -> str:
    """Return the last commit that two have in common, empty where git finds none in what is here."""
    try:
        return git("merge-base", head, base, folder=folder).strip()
    except GitError:
        return ""


def _fetch(folder: Path, depth: int, *commits: str) -> str:
    """Fetch commits from where the checkout came; return git's words in brackets where it fails."""
    # A depth would cut a whole history.
    shallow = git("rev-parse", "--is-shallow-repository", folder=folder).strip() == "true"
    command = ["git", "fetch", "--quiet", "--no-tags", *([f"--depth={depth}"] if shallow else []), "origin", *commits]
    try:
        # It must fail, not ask, where it has no credentials.
        done = subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, "GIT_TERMINAL_PROMPT": "0"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=_PATIENCE,
        )
    except subprocess.TimeoutExpired:
        return f" (git fetch took over {_PATIENCE:.0f} seconds)"
    words = " ".join(done.stderr.decode("utf-8", "replace").split())
    return f" (git reports: {words})" if done.returncode and words else ""
