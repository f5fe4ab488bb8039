"""The commit that a change starts at, in real repositories, whole and shallow."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from pytest_flopguard.cli.github.job import Job
from pytest_flopguard.cli.github.merge_base import NoBaseError, merge_base

Git = Callable[..., str]


class History(NamedTuple):
    """A repository: main went on after a branch left it, and GitHub merged the two to test them."""

    folder: Path
    parted: str
    tip: str
    head: str
    merged: str


@pytest.fixture
def history(git: Git, tmp_path: Path) -> History:
    def commit(name: str) -> str:
        git("commit", "-q", "--allow-empty", "-m", name)
        return git("rev-parse", "HEAD")

    commit("first")
    parted = commit("parted")
    git("checkout", "-q", "-b", "change")
    commit("change 1")
    head = commit("change 2")
    git("checkout", "-q", "main")
    tip = commit("main went on")
    git("checkout", "-q", "-b", "pull/7/merge")
    git("merge", "-q", "--no-ff", "-m", "merge", "change")
    return History(tmp_path, parted, tip, head, git("rev-parse", "HEAD"))


@pytest.fixture
def checkout(tmp_path_factory: pytest.TempPathFactory, history: History) -> Callable[..., Path]:
    """Check out as actions/checkout does: one ref of a remote, so many commits deep."""

    def make(ref: str, *options: str) -> Path:
        folder = tmp_path_factory.mktemp("checkout")
        for arguments in (
            ("init", "-q"),
            ("remote", "add", "origin", f"file://{history.folder}"),
            ("fetch", "-q", "--no-tags", *options, "origin", ref),
            ("checkout", "-q", "--detach", "FETCH_HEAD"),
        ):
            subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True)
        return folder

    return make


def pull_request(history: History, **more: Any) -> Job:
    payload = {"number": 7, "base": {"sha": history.tip}, "head": {"sha": history.head}}
    return Job(event_name="pull_request", event={"pull_request": {**payload, **more}})


def test_the_merge_that_is_tested_starts_at_its_first_parent(history: History) -> None:
    # What the branch does to main as it is now, and not to where it once left it.
    assert merge_base(pull_request(history), history.folder) == history.tip


def test_one_commit_deep_its_parent_is_fetched(history: History, checkout: Callable[..., Path]) -> None:
    folder = checkout("pull/7/merge", "--depth=1")
    assert merge_base(pull_request(history), folder) == history.tip
    assert subprocess.run(["git", "cat-file", "-e", history.tip], cwd=folder, check=False).returncode == 0


def test_the_head_itself_starts_where_it_left(history: History, checkout: Callable[..., Path]) -> None:
    assert merge_base(pull_request(history), checkout("change")) == history.parted
    assert merge_base(pull_request(history), checkout("change", "--depth=1")) == history.parted


def test_a_whole_history_is_not_cut(history: History, checkout: Callable[..., Path]) -> None:
    folder = checkout("change")
    merge_base(pull_request(history), folder)
    said = subprocess.run(
        ["git", "rev-parse", "--is-shallow-repository"], cwd=folder, check=True, capture_output=True, text=True
    )
    assert said.stdout.strip() == "false"


def test_a_push_starts_where_the_branch_was(git: Git, history: History) -> None:
    git("checkout", "-q", "main")
    assert merge_base(Job(event_name="push", event={"before": history.parted}), history.folder) == history.parted
    # Pushed over: what was there is no ancestor, but both come from somewhere.
    assert merge_base(Job(event_name="push", event={"before": history.head}), history.folder) == history.parted


def test_a_merge_group_starts_at_its_base(history: History) -> None:
    job = Job(event_name="merge_group", event={"merge_group": {"base_sha": history.tip}})
    assert merge_base(job, history.folder) == history.tip


@pytest.mark.parametrize("event", ["schedule", "workflow_dispatch", ""])
def test_an_event_without_a_base_is_told(history: History, event: str) -> None:
    with pytest.raises(NoBaseError, match="starts at no other commit"):
        merge_base(Job(event_name=event), history.folder)


def test_what_cannot_be_had_is_told(git: Git, history: History, checkout: Callable[..., Path]) -> None:
    folder = checkout("change", "--depth=1")
    # As with credentials that the checkout did not keep.
    git("remote", "set-url", "origin", "file:///nowhere", folder=folder)
    with pytest.raises(NoBaseError, match=r"does not reach back to \w{12} \(git reports: fatal: .*\): check out"):
        merge_base(pull_request(history), folder)
    folder = checkout("pull/7/merge", "--depth=1")
    git("remote", "set-url", "origin", "file:///nowhere", folder=folder)
    with pytest.raises(NoBaseError, match=r"does not hold \w{12} \(git reports: fatal: .*\): check out"):
        merge_base(pull_request(history), folder)


def test_no_repository_is_told(history: History, tmp_path_factory: pytest.TempPathFactory) -> None:
    with pytest.raises(NoBaseError, match=r"git finds no commit here \(fatal: "):
        merge_base(pull_request(history), tmp_path_factory.mktemp("empty"))


@pytest.mark.parametrize("base", ["--upload-pack=touch x", "main", "0" * 40, ""])
def test_a_base_that_is_no_commit_does_not_reach_git(
    checkout: Callable[..., Path], history: History, base: str
) -> None:
    folder = checkout("change", "--depth=1")
    with pytest.raises(NoBaseError, match="starts at no other commit"):
        merge_base(pull_request(history, base={"sha": base}), folder)
    assert not (folder / "x").exists()
