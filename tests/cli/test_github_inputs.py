"""Inputs and the job: what variables mean, and all that is wrong in them at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pytest_flopguard.cli.github.inputs import Inputs, read_inputs
from pytest_flopguard.cli.github.job import Job, read_job
from pytest_flopguard.core.errors import UsageError


def test_what_is_not_set_has_its_default(tmp_path: Path) -> None:
    wanted = Inputs(working_directory=tmp_path / ".")
    assert read_inputs({}, tmp_path) == wanted
    empty = dict.fromkeys(("FLOPGUARD_ID", "FLOPGUARD_ARGS", "FLOPGUARD_SUMMARY", "FLOPGUARD_FAIL_ON"), "")
    assert read_inputs(empty, tmp_path) == wanted


def test_what_is_set_is_read(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    given = {
        "FLOPGUARD_WORKING_DIRECTORY": "models",
        "FLOPGUARD_ARGS": "-k 'a or b' -m \"not slow\" tests/x\\ y.py",
        "FLOPGUARD_ID": "linux/3.12",
        "FLOPGUARD_COMPARE_TO": "base-run",
        "FLOPGUARD_COMMENT": "always",
        "FLOPGUARD_SUMMARY": "false",
        "FLOPGUARD_FAIL_ON": "regression",
    }
    assert read_inputs(given, tmp_path) == Inputs(
        working_directory=tmp_path / "models",
        args=("-k", "a or b", "-m", "not slow", "tests/x y.py"),
        name="linux/3.12",
        compare_to="base-run",
        comment="always",
        summary=False,
        fail_on="regression",
    )


def test_everything_wrong_is_told_at_once(tmp_path: Path) -> None:
    given = {
        "FLOPGUARD_WORKING_DIRECTORY": "x" * 5000,
        "FLOPGUARD_ARGS": "-k 'a",
        "FLOPGUARD_ID": "a b",
        "FLOPGUARD_COMPARE_TO": "bsae",
        "FLOPGUARD_COMMENT": "on change",
        "FLOPGUARD_SUMMARY": "yes",
        "FLOPGUARD_FAIL_ON": "regressions",
    }
    with pytest.raises(UsageError) as caught:
        read_inputs(given, tmp_path)
    told = [str(each) for each in caught.value.problems]
    assert len(told) == 7
    assert all(each.endswith("[bad-value]") for each in told)
    assert (
        told[2] == 'input: args = "-k \'a": expected arguments quoted as for a shell (No closing quotation) [bad-value]'
    )
    assert "expected none or base or base-run; did you mean 'base'?" in told[3]
    assert "did you mean 'on-change'?" in told[4]
    assert "did you mean 'regression'?" in told[6]


def event(tmp_path: Path, name: str, payload: Any) -> Job:
    (tmp_path / "event.json").write_text(json.dumps(payload))
    return read_job({"GITHUB_EVENT_NAME": name, "GITHUB_EVENT_PATH": str(tmp_path / "event.json")})


PULL = {"pull_request": {"number": 7, "base": {"sha": "b" * 40}}}


@pytest.mark.parametrize(
    ("name", "payload", "number", "base"),
    [
        ("pull_request", PULL, 7, "b" * 40),
        ("pull_request_target", PULL, 7, "b" * 40),
        ("push", {"before": "a" * 40, **PULL}, None, "a" * 40),
        # A new branch was nothing before.
        ("push", {"before": "0" * 40}, None, ""),
        ("merge_group", {"merge_group": {"base_sha": "c" * 40}}, None, "c" * 40),
        ("workflow_dispatch", {"inputs": {}}, None, ""),
        ("schedule", {"schedule": "0 0 * * *"}, None, ""),
        ("workflow_run", {"workflow_run": {"pull_requests": [{"number": 7}]}}, None, ""),
        ("issue_comment", {"issue": {"number": 7, "pull_request": {"number": 7}}}, None, ""),
        ("pull_request", {"pull_request": {"number": "7; rm"}}, None, ""),
        ("pull_request", {"pull_request": None}, None, ""),
        ("pull_request", [], None, ""),
    ],
)
def test_events(tmp_path: Path, name: str, payload: Any, number: int | None, base: str) -> None:
    found = event(tmp_path, name, payload)
    assert (found.pull_request, found.base) == (number, base)


def test_a_desk_is_no_job() -> None:
    found = read_job({})
    assert (found.event_name, found.pull_request, found.link, found.token, found.output) == ("", None, "", "", None)
    assert found.api_url == "https://api.github.com"
    assert found.workspace == Path.cwd()


def test_only_our_own_variable_is_the_token() -> None:
    assert read_job({"GITHUB_TOKEN": "a", "GH_TOKEN": "b"}).token == ""
    assert read_job({"GITHUB_TOKEN": "a", "FLOPGUARD_TOKEN": "c"}).token == "c"


@pytest.mark.parametrize(
    ("change", "link"),
    [
        ({}, "https://github.example/octo/net/actions/runs/42"),
        ({"GITHUB_RUN_ID": "42)x"}, ""),
        ({"GITHUB_SERVER_URL": ""}, ""),
    ],
)
def test_the_link_to_the_run(change: dict[str, str], link: str) -> None:
    given = {"GITHUB_SERVER_URL": "https://github.example", "GITHUB_REPOSITORY": "octo/net", "GITHUB_RUN_ID": "42"}
    assert read_job({**given, **change}).link == link


def test_a_broken_event_is_told(tmp_path: Path) -> None:
    (tmp_path / "event.json").write_text("{")
    with pytest.raises(UsageError, match="GITHUB_EVENT_PATH"):
        read_job({"GITHUB_EVENT_PATH": str(tmp_path / "event.json")})
    with pytest.raises(UsageError, match="GITHUB_EVENT_PATH"):
        read_job({"GITHUB_EVENT_PATH": str(tmp_path / "gone.json")})
