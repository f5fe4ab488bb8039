"""What can be seen of the action and the workflows without running them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from action.workflow_text import PIN, audit, check_schema

ROOT = Path(__file__).parent.parent.parent
ACTION = ROOT / "action.yml"
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))

INPUTS = {
    "working-directory": ".",
    "args": "",
    "id": "",
    "python": "python",
    "install": "",
    "compare-to": "none",
    "comment": "on-change",
    "summary": "true",
    "token": "${{ github.token }}",
    "fail-on": "budget",
}
OUTPUTS = ["outcome", "report-json", "flops-delta", "memory-delta", "tests", "broken"]


def read(path: Path) -> dict[str, Any]:
    # YAML 1.1 reads the key "on" as true.
    return {("on" if key is True else key): value for key, value in yaml.safe_load(path.read_text("utf-8")).items()}


def test_the_action_fits_its_schema() -> None:
    assert check_schema("github-actions", ACTION)[0] == 0, check_schema("github-actions", ACTION)[1]


def test_the_workflows_fit_their_schemas() -> None:
    assert [path.name for path in WORKFLOWS] == ["action.yml", "gpu.yml", "release.yml", "tests.yml", "weekly.yml"]
    assert check_schema("github-workflows", *WORKFLOWS)[0] == 0, check_schema("github-workflows", *WORKFLOWS)[1]
    assert check_schema("dependabot", ROOT / ".github" / "dependabot.yml")[0] == 0


def test_nothing_unsafe_is_found() -> None:
    assert audit(ROOT, "action.yml", ".github") == (0, [])


@pytest.mark.parametrize("without", ["shell: bash", "using: composite"])
def test_the_schema_sees_what_is_missing(without: str, tmp_path: Path) -> None:
    (tmp_path / "action.yml").write_text(ACTION.read_text("utf-8").replace(without, ""))
    assert check_schema("github-actions", tmp_path / "action.yml")[0] == 1


def test_the_audit_sees_an_expression_in_a_script(tmp_path: Path) -> None:
    unsafe = ACTION.read_text("utf-8").replace("pip install --quiet", 'pip install "${{ inputs.args }}"')
    assert unsafe != ACTION.read_text("utf-8")
    (tmp_path / "action.yml").write_text(unsafe)
    code, found = audit(tmp_path, "action.yml")
    assert code > 0
    assert found == ["template-injection"]


def test_inputs_are_described_and_have_texts_as_defaults() -> None:
    action = read(ACTION)
    assert {name: each["default"] for name, each in action["inputs"].items()} == INPUTS
    assert all(each["description"].strip() for each in action["inputs"].values())
    assert not any("required" in each for each in action["inputs"].values())


def test_outputs_are_those_of_the_step_that_measures() -> None:
    outputs = read(ACTION)["outputs"]
    assert list(outputs) == OUTPUTS
    assert all(each["description"].strip() for each in outputs.values())
    values = {name: each["value"] for name, each in outputs.items()}
    assert values.pop("outcome") == "${{ steps.run.outputs.outcome || 'error' }}"
    assert all(value == f"${{{{ steps.run.outputs.{name} }}}}" for name, value in values.items())


def test_steps_are_scripts_of_ours_that_read_inputs_from_their_environment() -> None:
    steps = read(ACTION)["runs"]["steps"]
    assert all("uses" not in each and each["shell"] == "bash" and "${{" not in each["run"] for each in steps)
    used = {name for each in steps for name in re.findall(r"inputs\.([\w-]+)", str(each))}
    assert used == set(INPUTS)


def test_only_the_step_that_comments_has_the_token() -> None:
    steps = read(ACTION)["runs"]["steps"]
    assert [each["name"] for each in steps if "token" in str(each).lower()] == ["Comment"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_ask_for_little_and_end_in_time(path: Path) -> None:
    workflow = read(path)
    assert workflow["permissions"] == {}
    assert set(workflow["concurrency"]) == {"group", "cancel-in-progress"}
    for job in workflow["jobs"].values():
        assert 0 < job["timeout-minutes"] <= 60
        writes = {name for name, level in job["permissions"].items() if level != "read"}
        assert writes <= ({"id-token"} if path.name == "release.yml" else set())


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_every_action_of_others_is_pinned_to_a_commit(path: Path) -> None:
    lines = [line.strip() for line in path.read_text("utf-8").splitlines() if "uses:" in line]
    assert lines
    assert [line for line in lines if not PIN.search(line) and line != "uses: ./"] == []


def test_one_action_has_one_pin() -> None:
    found = {each.groups() for path in WORKFLOWS for each in PIN.finditer(path.read_text("utf-8"))}
    assert len(found) == len({name for name, _, _ in found})


def test_no_workflow_runs_code_of_forks_with_rights() -> None:
    assert [path.name for path in WORKFLOWS if {"pull_request_target", "workflow_run"} & set(read(path)["on"])] == []


def test_a_machine_of_our_own_runs_no_code_of_forks() -> None:
    for path in WORKFLOWS:
        for job in read(path)["jobs"].values():
            if "self-hosted" in job["runs-on"]:
                assert job["if"].endswith("github.event.pull_request.head.repo.full_name == github.repository")


def test_the_supported_versions_are_tested() -> None:
    jobs = read(ROOT / ".github" / "workflows" / "tests.yml")["jobs"]
    assert "python .github/matrix.py" in str(jobs["wheel"])
    matrix = jobs["supported"]["strategy"]["matrix"]
    # Every Python of the classifiers, with the newest torch ...
    assert matrix["python"] == "${{ fromJSON(needs.wheel.outputs.python) }}"
    # ... and every older torch with one Python at least.
    torch = {*matrix["torch"], *(each["torch"] for each in matrix["include"])}
    assert sorted({text.rpartition(".")[0] for text in torch}) == ["2.11", "2.12", "2.13", "2.14", "2.15"]


def test_the_matrix_is_read_from_the_classifiers() -> None:
    printed = subprocess.run(
        [sys.executable, ROOT / ".github" / "matrix.py"], capture_output=True, text=True, check=True
    ).stdout
    assert printed == 'python=["3.10", "3.11", "3.12", "3.13", "3.14"]\n'


def test_jobs_test_the_wheel_that_was_built() -> None:
    jobs = read(ROOT / ".github" / "workflows" / "tests.yml")["jobs"]
    tested = {name: str(job["steps"]) for name, job in jobs.items() if job.get("needs") == "wheel"}
    assert sorted(tested) == ["smoke", "supported"]
    assert all("dist/*.whl" in steps for steps in tested.values())


def test_every_week_the_newest_and_the_lowest_are_tested() -> None:
    weekly = read(ROOT / ".github" / "workflows" / "weekly.yml")
    assert weekly["on"]["schedule"]
    settings = {name: job["steps"][-1].get("env", {}).get("DEPS") for name, job in weekly["jobs"].items()}
    assert settings == {"newest": "newest", "lowest": "lowest", "downstream": None}
