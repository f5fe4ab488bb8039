"""The action in a project of somebody else, run for real."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from action.act import Act, WorkflowRun
from action.github_server import GitHubServer
from action.project import LAYER, NUMBER, REPOSITORY, Project

pytestmark = pytest.mark.slow

MARKER = "<!-- flopguard:cpu -->"
# The limit is 131,100 FLOPs: one layer is within it, two are over it.
# Every step of the action that has to have run. act leaves a job out whose label it does not know, and exits with 0.
RAN = {"flops": "success", "flops/run": "success"}


def levels(run: WorkflowRun) -> list[str]:
    return [each.level for each in run.annotations]


def test_within_the_budget(act: Act, project: Project, github: GitHubServer, artifact: Callable[[str], Path]) -> None:
    # No python3 but that of the jobs has the plugin.
    project.workflow(python="python3", install='test "$FLOPGUARD_PYTHON" = python3', compare_to="base")
    project.model(layers=1)
    project.commit()
    run = act.run(project.folder, "pull_request", project.pull_request())
    assert (run.code, run.jobs) == (0, {"flops": "success"}), run.told()
    assert run.steps().items() >= RAN.items()
    outputs = run.outputs("flops")
    assert (outputs["outcome"], outputs["tests"], outputs["broken"]) == ("passed", "1", "0")
    # No baseline yet, so nothing to compare with: no number is not 0.
    assert (outputs["flops-delta"], outputs["memory-delta"]) == ("", "")
    report = json.loads(artifact("report").read_text("utf-8"))
    assert [(each["nodeid"], each["flops"]["total"]) for each in report["records"]] == [
        ("tests/test_model.py::test_forward", LAYER)
    ]
    assert "test_forward" in run.summary
    (told,) = run.annotations
    assert told.level == "notice"
    assert "no baseline is committed at" in told.message
    # Nothing changed and nothing broke.
    assert github.bodies(REPOSITORY, NUMBER) == []


def test_over_the_budget_and_back(act: Act, project: Project, github: GitHubServer) -> None:
    # Somebody else planted the marker, and so many talked that the comment lands on the second page.
    github.comment(REPOSITORY, NUMBER, f"{MARKER}\nAll is well.", login="stranger")
    for number in range(120):
        github.comment(REPOSITORY, NUMBER, f"Remark {number}", login="reviewer")
    project.workflow()
    project.model(layers=2)
    project.commit()
    run = act.run(project.folder, "pull_request", project.pull_request())
    assert (run.code, run.jobs) == (1, {"flops": "failure"}), run.told()
    assert run.steps().items() >= {"flops": "failure", "flops/run": "failure"}.items()
    outputs = run.outputs("flops")
    assert (outputs["outcome"], outputs["tests"], outputs["broken"]) == ("failed", "1", "1")
    assert "test_forward" in run.summary
    assert "262.14 kFLOP" in run.summary
    (error,) = run.annotations
    assert (error.level, error.properties["file"], error.properties["line"]) == ("error", "pyproject.toml", "5")
    assert "over the limit of 131.1 kFLOP" in error.message
    first = github.bodies(REPOSITORY, NUMBER)[121:]
    assert len(first) == 1
    assert first[0].startswith(MARKER)
    assert "262.14 kFLOP" in first[0]

    project.model(layers=1)
    project.commit()
    run = act.run(project.folder, "pull_request", project.pull_request())
    assert (run.code, run.jobs) == (0, {"flops": "success"}), run.told()
    bodies = github.bodies(REPOSITORY, NUMBER)
    assert bodies[0] == f"{MARKER}\nAll is well."
    assert len(bodies) == 122
    assert bodies[121].startswith(MARKER)
    assert "262.14 kFLOP" not in bodies[121]
    assert [each.method for each in github.requests].count("POST") >= 1
    assert len(github.asked("POST", "/comments")) == 1
    assert len(github.asked("PATCH", "/comments/")) == 1


def test_a_token_that_may_only_read(act: Act, project: Project, github: GitHubServer) -> None:
    github.read_only()
    project.workflow(comment="always")
    project.nothing()
    project.commit()
    run = act.run(project.folder, "pull_request", project.pull_request(head="stranger/widget"))
    assert (run.code, run.jobs) == (0, {"flops": "success"}), run.told()
    assert levels(run) == ["notice"]
    assert "flopguard: 0 measured" in run.summary
    assert github.bodies(REPOSITORY, NUMBER) == []


@pytest.mark.parametrize("event", ["push", "merge_group", "workflow_dispatch", "schedule"])
def test_events_without_a_pull_request(event: str, act: Act, project: Project, github: GitHubServer) -> None:
    project.workflow(comment="always")
    project.model(layers=2)
    if event != "push":
        # One of them has a model; the others are quicker without.
        project.write({"tests/test_model.py": "def test_forward():\n    assert not 'here'\n", "pyproject.toml": ""})
    sha = project.commit()
    payloads = {
        "push": {"ref": "refs/heads/main", "after": sha, "before": "0" * 40},
        "merge_group": {"merge_group": {"head_sha": sha, "base_sha": sha, "base_ref": "refs/heads/main"}},
        "workflow_dispatch": {"ref": "refs/heads/main", "inputs": {}},
        "schedule": {"schedule": "0 0 * * *"},
    }
    run = act.run(project.folder, event, payloads[event])
    # The gate and the summary are the same; there is nothing to comment on, and nobody is asked.
    assert (run.code, run.jobs) == (1, {"flops": "failure"}), run.told()
    outputs = run.outputs("flops")
    assert (outputs["outcome"], outputs["tests"]) == (("failed", "1") if event == "push" else ("error", "0"))
    assert "flopguard: " in run.summary
    assert levels(run) == (["error"] if event == "push" else [])
    assert f"no comment: a job for {event} has no pull request" in run.log
    assert github.requests == []


@pytest.mark.parametrize(
    "inputs",
    [{"install": "exit 3"}, {"fail_on": "regresion"}, {"args": "--no-such-option"}],
    ids=lambda each: next(iter(each)),
)
def test_what_cannot_be_measured_is_an_error(inputs: dict[str, str], act: Act, project: Project) -> None:
    project.workflow(**inputs)
    project.nothing()
    project.commit()
    run = act.run(project.folder, "pull_request", project.pull_request())
    assert (run.code, run.jobs) == (1, {"flops": "failure"}), run.told()
    outputs = run.outputs("flops")
    assert outputs.pop("outcome") == "error"
    # Nothing is said of what nobody knows.
    assert set(outputs.values()) == {""}


def test_in_a_folder_against_the_merge_base(act: Act, project: Project, github: GitHubServer) -> None:
    project.workflow(compare_to="base", working_directory="models/small")
    project.model(layers=1, flops="1 MFLOP", below="models/small/")
    project.accept(below="models/small")
    project.commit("Keep a baseline")
    project.branch("change")
    project.model(layers=3, flops="1 MFLOP", below="models/small/")
    project.commit("Two more layers")
    run = act.run(project.folder, "pull_request", project.pull_request())
    assert (run.code, run.jobs) == (1, {"flops": "failure"}), run.told()
    outputs = run.outputs("flops")
    assert (outputs["outcome"], outputs["broken"], outputs["flops-delta"]) == ("failed", "1", str(2 * LAYER))
    assert int(outputs["memory-delta"]) > 0
    # FLOPs, parameters and memory are over the baseline, which is named as a path of the repository.
    assert levels(run) == ["error"] * 3
    assert {each.properties["file"] for each in run.annotations} == {"models/small/tests/__flopguard__/test_model.toml"}
    (body,) = github.bodies(REPOSITORY, NUMBER)
    assert "131.07 kFLOP → 393.22 kFLOP" in body


def test_against_a_run_of_the_merge_base(act: Act, project: Project, github: GitHubServer) -> None:
    project.workflow(compare_to="base-run", fail_on="regression")
    project.model(layers=1)
    project.commit()
    project.branch("change")
    project.model(layers=2, flops="1 MFLOP")
    project.commit()
    run = act.run(project.folder, "pull_request", project.pull_request())
    # Within its budget, and dearer than before.
    assert (run.code, run.jobs) == (1, {"flops": "failure"}), run.told()
    outputs = run.outputs("flops")
    assert (outputs["outcome"], outputs["flops-delta"], outputs["broken"]) == ("failed", str(LAYER), "0")
    (body,) = github.bodies(REPOSITORY, NUMBER)
    assert "131.07 kFLOP → 262.14 kFLOP" in body


def test_a_server_in_trouble_is_asked_again(act: Act, project: Project, github: GitHubServer) -> None:
    github.fail("GET", "/comments$", 502, times=1)
    github.fail("POST", "/comments$", 503, times=1)
    project.workflow(comment="always", summary="false", token="ghs_of_an_app")
    project.nothing()
    project.commit()
    run = act.run(project.folder, "pull_request", project.pull_request())
    assert (run.code, run.jobs) == (0, {"flops": "success"}), run.told()
    assert len(github.bodies(REPOSITORY, NUMBER)) == 1
    assert {each.headers["authorization"] for each in github.requests} == {"Bearer ghs_of_an_app"}
    assert run.summary == ""

    # And where it stays in trouble, that is told, and the job is what it was.
    github.fail("GET", "/comments$", 500)
    run = act.run(project.folder, "pull_request", project.pull_request())
    assert (run.code, run.jobs) == (0, {"flops": "success"}), run.told()
    (told,) = run.annotations
    assert told.level in ("warning", "notice")
    assert "500" in told.message
    assert len(github.bodies(REPOSITORY, NUMBER)) == 1
