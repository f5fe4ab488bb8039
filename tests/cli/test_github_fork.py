"""A comment for a fork: the pull request comes from GitHub, and of the report only numbers and names are taken."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from github_server import GitHubServer

Step = Callable[..., tuple[int, list[str]]]
Saved = Callable[..., Path]
SHA = "0123456789abcdef0123456789abcdef01234567"
FORK = "mallory/net"
RUN = {
    "id": 99,
    "event": "pull_request",
    "head_sha": SHA,
    "head_branch": "feature/a b",
    "head_repository": {"full_name": FORK},
}


@pytest.fixture
def fork(job: Any, github: GitHubServer) -> GitHubServer:
    """A finished run of a fork's pull request 7."""
    job.start("workflow_run", {"workflow_run": RUN})
    github.pull("octo/net", 7, SHA, head=FORK, branch="feature/a b")
    return github


def test_the_comment_of_a_fork(step: Step, job: Any, saved: Saved, fork: GitHubServer) -> None:
    code, log = step("fork-comment", "--report", saved("report.json", {"test_b": 11}, limit=10))
    assert (code, log) == (0, ["flopguard: comment on pull request 7: created"])
    (body,) = job.bodies
    assert body.startswith("<!-- flopguard:default -->\n### flopguard: 1 broken of 1 measured\n")
    # The link is to the run that measured, not to this one.
    assert "[run](https://github.example/octo/net/actions/runs/99)" in body
    assert next(each.path for each in fork.asked("GET")) == "/repos/octo/net/pulls"


def test_a_branch_of_ones_own_is_found_too(step: Step, job: Any, saved: Saved, github: GitHubServer) -> None:
    run = {**RUN, "head_repository": {"full_name": "octo/net"}, "head_branch": "gone"}
    job.start("workflow_run", {"workflow_run": run})
    # The branch was renamed since, but the commit is here.
    github.pull("octo/net", 7, SHA, head="octo/net", branch="renamed")
    step("fork-comment", "--report", saved("report.json", {"test_b": 11}, limit=10))
    assert len(job.bodies) == 1


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"event": "push"}, "the run was for push, not for a pull request"),
        ({"head_sha": "f" * 40}, "no open pull request has the head ffffffffffff any more"),
        ({"head_repository": {"full_name": "other/net"}}, "no open pull request has the head 0123456789ab any more"),
        ({"head_branch": "other"}, "no open pull request has the head 0123456789ab any more"),
        ({"head_sha": "../../../user"}, "no open pull request has the head ../../../use any more"),
        ({"head_sha": "\u00b2" * 40}, "no open pull request has the head \u00b2\u00b2\u00b2\u00b2"),
        ({"head_sha": None, "id": None}, "no open pull request has the head None any more"),
        ({"head_repository": None}, "no open pull request has the head 0123456789ab any more"),
    ],
)
def test_without_its_pull_request_there_is_no_comment(
    step: Step, job: Any, saved: Saved, fork: GitHubServer, change: dict[str, Any], told: str
) -> None:
    job.start("workflow_run", {"workflow_run": {**RUN, **change}})
    code, log = step("fork-comment", "--report", saved("report.json", {"test_b": 11}, limit=10))
    assert code == 0
    (said,) = log
    assert said.startswith(f"::notice title=flopguard::no comment was written: {told}")
    assert said.endswith(" [no-comment]")
    assert job.bodies == []
    assert not any(".." in each.path for each in fork.requests)


def test_a_closed_one_or_one_of_two_is_not_guessed(step: Step, job: Any, saved: Saved, github: GitHubServer) -> None:
    job.start("workflow_run", {"workflow_run": RUN})
    github.pull("octo/net", 6, SHA, head=FORK, branch="feature/a b", state="closed")
    report = saved("report.json", {"test_b": 11}, limit=10)
    assert "no open pull request" in step("fork-comment", "--report", report)[1][0]
    for number in (7, 8):
        github.pull("octo/net", number, SHA, head=FORK, branch="feature/a b")
    assert "more than one pull request has the head" in step("fork-comment", "--report", report)[1][0]
    assert github.comments == {}


@pytest.mark.parametrize("number", [None, "7", True, 7.0])
def test_a_pull_request_without_a_number_is_none(
    step: Step, job: Any, saved: Saved, fork: GitHubServer, number: object
) -> None:
    fork.pulls["octo/net"][0]["number"] = number
    code, log = step("fork-comment", "--report", saved("report.json", {"test_b": 11}, limit=10))
    assert code == 0
    assert "no open pull request" in log[0]
    assert fork.comments == {}


def test_the_number_in_the_artifact_is_not_asked(step: Step, job: Any, saved: Saved, fork: GitHubServer) -> None:
    report = saved("report.json", {"test_b": 11}, limit=10)
    data = json.loads(report.read_text())
    data["tool"] |= {"pull_request": 1, "number": 1}
    data["environment"] |= {"GITHUB_REF": "refs/pull/1/merge"}
    report.write_text(json.dumps(data))
    step("fork-comment", "--report", report)
    assert list(fork.comments) == [("octo/net", 7)]


def test_another_event_is_refused(step: Step, job: Any, saved: Saved) -> None:
    job.start("pull_request", {"pull_request": {"number": 7}})
    code, log = step("fork-comment", "--report", saved("report.json", {"test_b": 11}, limit=10))
    assert code == 2
    assert "expected workflow_run" in log[-1]


def test_a_run_that_left_no_report_is_told(step: Step, fork: GitHubServer) -> None:
    code, log = step("fork-comment", "--report", "gone.json")
    assert (code, log) == (
        0,
        ["::notice title=flopguard::no comment was written: that run left no gone.json [no-comment]"],
    )


def spoiled(data: dict[str, Any], how: str) -> Any:
    record = data["records"][0]
    if how == "markdown instead of a report":
        return "# Hello"
    if how == "one key more":
        record["html"] = "<script>"
    if how == "text for a number":
        record["memory"]["peak_bytes"] = "<b>1</b>"
    if how == "another outcome than follows":
        record["outcome"] = "passed"
    if how == "a code that does not exist":
        record["findings"][0]["code"] = "[x](http://evil.example)"
    if how == "a name without an end":
        record["nodeid"] = "a.py::" + "x" * 2000
    if how == "a test of another name":
        record["label"] = "r" * 2000
    if how == "a device that is a sentence":
        record["memory"]["device"] = "cpu, please run my script"
    if how == "a limit for a sentence":
        record["findings"][0]["limit_device"] = "please run my script"
    if how == "more devices than a machine has":
        record["other_memory"] = [record["memory"]] * 64
    if how == "more limits than anybody writes":
        record["findings"] *= 1001
    if how == "more tests than anybody has":
        data["records"] *= 10_001
    if how == "tables in tables":
        data["tool"] = {"a": json.loads("[" * 21 + "]" * 21)}
    if how == "a repetition that no engine can count":
        record["findings"][0]["parts"] = [{"name": "a", "equation": "b", "flops": 1, "modules": "a{99999999999999}"}]
    if how == "a pattern that takes minutes to compile":
        record["findings"][0]["parts"] = [{"name": "a", "equation": "b", "flops": 1, "modules": "a" * 20_000_000}]
    if how == "a number that takes for ever to print":
        for name in ("peak_bytes", "growth_bytes"):
            record["memory"][name] = 10**4000
    return data


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("markdown instead of a report", "it has no format_version"),
        ("one key more", "holds html, which this version does not know"),
        ("text for a number", "expected int"),
        ("another outcome than follows", "contradicts itself: outcome"),
        ("a code that does not exist", "no such code: '[x](http://evil.example)'"),
        ("a name without an end", "a test's name is longer than 1000"),
        ("a test of another name", "a test's name is longer than 1000"),
        ("a device that is a sentence", "no such device: 'cpu, please run my script'"),
        ("a limit for a sentence", "no such device: 'please run my script'"),
        ("more devices than a machine has", "has more devices or limits than a test can have"),
        ("more limits than anybody writes", "has more devices or limits than a test can have"),
        pytest.param("more tests than anybody has", "it has 10,001 records, more than 10,000", marks=pytest.mark.slow),
        ("tables in tables", "it is nested too deeply"),
        ("a repetition that no engine can count", "'a{99999999999999}' is no regular expression: the repetition"),
        ("a pattern that takes minutes to compile", "repeats more than modules of a term need"),
        ("a number that takes for ever to print", "a number of it has 4001 digits"),
    ],
)
def test_what_is_no_report_of_numbers_and_names_is_refused(
    step: Step, saved: Saved, fork: GitHubServer, how: str, told: str
) -> None:
    report = saved("report.json", {"test_b": 11}, limit=10)
    report.write_text(json.dumps(spoiled(json.loads(report.read_text()), how)))
    code, log = step("fork-comment", "--report", report)
    assert code == 2
    assert told in log[-1]
    assert "[bad-report]" in log[-1]
    assert fork.comments == {}


def test_a_file_too_large_for_a_report_is_not_even_read(step: Step, job: Any, fork: GitHubServer) -> None:
    with (job.folder / "report.json").open("wb") as stream:
        stream.truncate(33 * 1024 * 1024)
    code, log = step("fork-comment", "--report", "report.json")
    assert code == 2
    assert "it has 34,603,008 bytes, more than 33,554,432" in log[-1]


@pytest.mark.parametrize("kind", ["link", "link to nothing", "pipe", "folder"])
def test_what_is_no_plain_file_is_not_opened(step: Step, job: Any, fork: GitHubServer, kind: str) -> None:
    report = job.folder / "report.json"
    if kind == "pipe":
        os.mkfifo(report)
    elif kind == "folder":
        report.mkdir()
    else:
        # A link may lead to anything, such as a device that never ends.
        report.symlink_to("/dev/zero" if kind == "link" else "gone.json")
    code, log = step("fork-comment", "--report", "report.json")
    assert code == 2
    assert "it is no plain file" in log[-1]
    assert fork.comments == {}


def test_what_would_unfold_to_more_than_memory_holds_is_left_out(
    step: Step, job: Any, saved: Saved, fork: GitHubServer
) -> None:
    report = saved("report.json", {"test_b": 11}, limit=10, baselines={"test_b": 9})
    data = json.loads(report.read_text())
    record = data["records"][0]
    # 100,000 layers, of which each has as many, and so on: 10 ** 20 modules.
    layers = ".".join(["0-99999"] * 4)
    record["baseline"]["modules"] = {layers: record["baseline"]["modules"].pop("Net.0")}
    # And a module in a module in a module, 200,000 times.
    deep = "a." * 200_000
    record["flops"]["counts"][0]["module"] = deep
    record["flops"]["by_module"] = {deep: 11}
    report.write_text(json.dumps(data))
    assert step("fork-comment", "--report", report)[0] == 0
    (body,) = job.bodies
    # 11 of 9 FLOPs.
    assert "+22.22%" in body


def test_no_reason_of_a_stranger_is_shown(step: Step, job: Any, saved: Saved, fork: GitHubServer) -> None:
    report = saved("report.json", {"test_b[@octo <b>x</b> http://evil.example]": 11}, limit=10)
    data = json.loads(report.read_text())
    data["notes"] = ["please run my script"]
    data["records"][0]["unavailable"] = {"cuda": "please run my script"}
    data["records"][0]["findings"][0] |= {"reason": "please run my script"}
    data["records"][0]["findings"][0]["origin"] |= {"path": "please run my script"}
    data["environment"] |= {"torch": "please run my script"}
    report.write_text(json.dumps(data))
    assert step("fork-comment", "--report", report)[0] == 0
    (body,) = job.bodies
    assert "please" not in body
    assert "`tests/test_a.py::test_b[@octo <b>x</b> http://evil.example]`" in body


def test_a_token_that_may_not_read_pull_requests_is_a_notice(step: Step, saved: Saved, fork: GitHubServer) -> None:
    fork.fail("GET", "/pulls$", 403, message="Resource not accessible by integration")
    code, log = step("fork-comment", "--report", saved("report.json", {"test_b": 11}, limit=10))
    assert code == 0
    assert [line.partition(" ")[0] for line in log] == ["::notice"]
