"""The jobs that only comment install next to nothing, as our page shows."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from action.github_server import GitHubServer
from action.page_workflows import PAGE
from action.project import NUMBER, REPOSITORY

from pytest_flopguard import __version__

REPORT = Path(__file__).parent.parent / "golden" / "report.json"
# What is installed for the tests hides behind this: only the standard library and what is named is found.
BARE = """\
import sys

class Nothing:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in {found} and top not in sys.stdlib_module_names:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Nothing())
from pytest_flopguard.cli import main
sys.exit(main(sys.argv[1:]))
"""
INSTALL = re.compile(r"pip install --no-deps (?P<names>.+)$", re.MULTILINE)


def installed() -> set[str]:
    """Return the packages that the page's jobs install."""
    (names,) = {found["names"] for found in INSTALL.finditer(PAGE.read_text("utf-8"))}
    return {name.partition("==")[0].replace("-", "_") for name in names.split()}


def bare(
    folder: Path, github: GitHubServer, event: str, payload: object, *arguments: str, without: str = ""
) -> tuple[int, str]:
    (folder / "event.json").write_text(json.dumps(payload))
    run = subprocess.run(
        [sys.executable, "-c", BARE.format(found=installed() - {without}), "github", *arguments],
        cwd=folder,
        env={
            "GITHUB_API_URL": github.url,
            "GITHUB_REPOSITORY": REPOSITORY,
            "GITHUB_EVENT_NAME": event,
            "GITHUB_EVENT_PATH": "event.json",
            "GITHUB_STEP_SUMMARY": "summary.md",
            "FLOPGUARD_TOKEN": "t",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return run.returncode, run.stdout


def test_the_page_names_one_release() -> None:
    text = PAGE.read_text("utf-8")
    assert set(re.findall(r"pytest-flopguard(?:@v|==)([\d.]+)", text)) == {__version__}


def test_merge(tmp_path: Path, github: GitHubServer) -> None:
    code, told = bare(tmp_path, github, "pull_request", {"pull_request": {"number": NUMBER}}, "merge", str(REPORT))
    # A test failed in that report.
    assert code == 1, told
    assert len(github.bodies(REPOSITORY, NUMBER)) == 1, told
    assert (tmp_path / "summary.md").stat().st_size > 0


def test_fork_comment(tmp_path: Path, github: GitHubServer) -> None:
    fork, sha = "stranger/widget", "0123456789abcdef0123456789abcdef01234567"
    github.pull(REPOSITORY, NUMBER, sha, head=fork, branch="change")
    run = {"event": "pull_request", "head_sha": sha, "head_branch": "change", "id": 1}
    payload = {"workflow_run": {**run, "head_repository": {"full_name": fork}}}
    code, told = bare(tmp_path, github, "workflow_run", payload, "fork-comment", "--report", str(REPORT))
    assert code == 0, told
    assert len(github.bodies(REPOSITORY, NUMBER)) == 1, told


@pytest.mark.parametrize("without", sorted(installed() - {"pytest_flopguard"}))
def test_each_package_is_needed(without: str, tmp_path: Path, github: GitHubServer) -> None:
    payload = {"pull_request": {"number": NUMBER}}
    _, told = bare(tmp_path, github, "pull_request", payload, "merge", str(REPORT), without=without)
    assert without in told
    assert github.bodies(REPOSITORY, NUMBER) == []
