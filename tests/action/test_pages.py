"""The workflows of our pages do what the pages say, as they stand there."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from action.act import Act
from action.github_server import GitHubServer
from action.page_workflows import workflows
from action.project import LAYER, NUMBER, REPOSITORY, USES, Project
from action.workflow_text import audit, check_schema

FLOPS, GPU, PROJECTS, COMMENT = (
    f".github/workflows/{name}.yml" for name in ("flops", "gpu", "projects", "flops-comment")
)
FORK = "stranger/widget"


@pytest.fixture
def pages(project: Project) -> Project:
    """A project with every workflow of the page, and the requirements that they install."""
    project.write({**workflows(), "requirements.txt": "numpy\n"})
    return project


def test_the_page_has_these_workflows() -> None:
    assert list(workflows()) == [FLOPS, GPU, PROJECTS, COMMENT]


def test_they_fit_the_schema_and_are_safe(tmp_path: Path) -> None:
    for name, text in workflows().items():
        # The page asks its reader to pin the action.
        pinned = text.replace(USES, f"{USES.partition('@')[0]}@{'0' * 40} # v0.1.0")
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(pinned)
    code, told = check_schema("github-workflows", *(tmp_path / name for name in workflows()))
    assert code == 0, told
    assert audit(tmp_path, ".github") == (0, [])


@pytest.mark.slow
def test_on_every_pull_request(
    installing_act: Act, pages: Project, github: GitHubServer, artifact: Callable[[str], Path]
) -> None:
    pages.model(layers=1, flops="1 MFLOP")
    pages.accept()
    pages.commit("Keep a baseline")
    pages.branch("change")
    pages.model(layers=2, flops="1 MFLOP")
    pages.accept("a second layer")
    pages.commit("A second layer")
    run = installing_act.run(pages.folder, "pull_request", pages.pull_request(), workflow=FLOPS)
    assert (run.code, run.jobs) == (0, {"flops": "success"}), run.told()
    assert run.outputs("flops")["flops-delta"] == str(LAYER)
    assert len(github.bodies(REPOSITORY, NUMBER)) == 1
    report = json.loads(artifact("flops").read_text("utf-8"))
    assert [each["flops"]["total"] for each in report["records"]] == [2 * LAYER]


@pytest.mark.slow
def test_with_a_gpu_as_well(act: Act, pages: Project, github: GitHubServer) -> None:
    pages.model(layers=2)
    pages.commit()
    run = act.run(pages.folder, "pull_request", pages.pull_request(), workflow=GPU)
    # Both jobs are over budget, and the third comments nevertheless, and is as red as they are.
    assert (run.code, run.jobs) == (1, {"cpu": "failure", "gpu": "failure", "comment": "failure"}), run.told()
    (body,) = github.bodies(REPOSITORY, NUMBER)
    assert "cpu" in body
    assert "gpu" in body


@pytest.mark.slow
def test_with_a_gpu_of_which_forks_get_nothing(act: Act, pages: Project, github: GitHubServer) -> None:
    pages.nothing()
    pages.commit()
    run = act.run(pages.folder, "pull_request", pages.pull_request(head=FORK), workflow=GPU)
    assert (run.code, run.jobs) == (0, {"cpu": "success"}), run.told()
    assert github.requests == []


@pytest.mark.slow
def test_several_projects(act: Act, pages: Project, github: GitHubServer) -> None:
    pages.nothing(below="projects/vision/")
    pages.model(layers=2, below="projects/text/")
    pages.write({f"projects/{name}/requirements.txt": "numpy\n" for name in ("vision", "text")})
    pages.commit()
    run = act.run(pages.folder, "pull_request", pages.pull_request(), workflow=PROJECTS)
    assert run.code == 1, run.told()
    # act keeps one result for all legs of a matrix: a leg may be told to have failed with another. The steps say.
    assert len(run.jobs) == 2, run.told()
    outcomes = {each["arg"] for each in run.of(command="set-output", name="outcome")}
    assert outcomes == {"failed", "passed"}, run.told()
    bodies = github.bodies(REPOSITORY, NUMBER)
    assert sorted(body.partition("-->")[0] for body in bodies) == ["<!-- flopguard:text ", "<!-- flopguard:vision "]


@pytest.mark.slow
def test_a_fork_and_the_comment_that_it_may_not_make(act: Act, pages: Project, github: GitHubServer) -> None:
    pages.model(layers=2)
    sha = pages.commit()
    github.pull(REPOSITORY, NUMBER, sha, head=FORK, branch="change")
    github.read_only()
    payload = pages.pull_request(head=FORK)
    run = act.run(pages.folder, "pull_request", payload, workflow=FLOPS)
    assert (run.code, run.jobs) == (1, {"flops": "failure"}), run.told()
    assert github.bodies(REPOSITORY, NUMBER) == []
    assert "[no-comment]" in run.annotations[-1].message
    assert [each.level for each in run.annotations if "[no-comment]" in each.message] == ["notice"]

    github.troubles.clear()
    event = finished(sha, FORK)
    run = act.run(pages.folder, "workflow_run", event, workflow=COMMENT)
    assert (run.code, run.jobs) == (0, {"comment": "success"}), run.told()
    (body,) = github.bodies(REPOSITORY, NUMBER)
    assert "test_forward" in body


@pytest.mark.slow
def test_a_run_of_which_nothing_is_left(act: Act, pages: Project, github: GitHubServer) -> None:
    sha = pages.commit()
    github.pull(REPOSITORY, NUMBER, sha, head=FORK, branch="change")
    run = act.run(pages.folder, "workflow_run", finished(sha, FORK), workflow=COMMENT)
    assert (run.code, run.jobs) == (0, {"comment": "success"}), run.told()
    (told,) = run.annotations
    assert (told.level, told.message) == (
        "notice",
        "no comment was written: that run left no report.json [no-comment]",
    )
    assert github.requests == []


@pytest.mark.slow
def test_a_pull_request_of_ones_own_has_its_comment_already(act: Act, pages: Project, github: GitHubServer) -> None:
    sha = pages.commit()
    run = act.run(pages.folder, "workflow_run", finished(sha, REPOSITORY), workflow=COMMENT)
    assert (run.code, run.jobs, run.steps()) == (0, {}, {}), run.told()


def finished(sha: str, head: str) -> dict[str, Any]:
    """Return the event that a run for a pull request has ended."""
    return {
        "action": "completed",
        "repository": {"full_name": REPOSITORY, "default_branch": "main"},
        "workflow_run": {
            "id": 1,
            "name": "flops",
            "event": "pull_request",
            "head_sha": sha,
            "head_branch": "change",
            "head_repository": {"full_name": head, "owner": {"login": head.partition("/")[0]}},
            # GitHub leaves it empty for forks.
            "pull_requests": [],
            "conclusion": "failure",
        },
    }
