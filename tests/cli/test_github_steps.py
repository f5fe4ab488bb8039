"""Publishing what was saved: gate, outputs, summary, annotations, and the comment, by event and input."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from github_server import GitHubServer

Step = Callable[..., tuple[int, list[str]]]
Saved = Callable[..., Path]
MARKER = "<!-- flopguard:default -->\n"


def annotations(log: list[str]) -> list[str]:
    return [line for line in log if line.startswith("::")]


def test_nothing_to_tell_is_no_comment(step: Step, job: Any, saved: Saved) -> None:
    code, log = step("publish", "--report", saved("report.json", {"test_b": 10}))
    assert (code, annotations(log), job.bodies) == (0, [], [])
    assert log == ["flopguard: comment on pull request 7: not needed"]
    assert job.summary.startswith("### flopguard: 1 measured\n")
    assert job.outputs == {
        "outcome": "passed",
        "report-json": str(job.folder / "report.json"),
        "comment-json": "",
        "flops-delta": "",
        "memory-delta": "",
        "tests": "1",
        "broken": "0",
    }


def test_a_broken_budget_fails_and_is_told_everywhere(step: Step, job: Any, saved: Saved) -> None:
    (job.folder / "pyproject.toml").write_text("")
    code, log = step("publish", "--report", saved("report.json", {"test_b": 11, "test_c": 10}, limit=10))
    assert code == 1
    (told,) = annotations(log)
    # 11 of 10 FLOPs: one over, a tenth.
    assert told == (
        "::error file=pyproject.toml,line=3,title=flopguard%3A OVER tests/test_a.py%3A%3Atest_b"
        "::FLOPs: 11 FLOP, over the limit of 10 FLOP by 1 FLOP (10.00%25) [over-budget]%0Alimit: pyproject.toml:3"
    )
    (body,) = job.bodies
    assert body.startswith(f"{MARKER}### flopguard: 1 broken of 2 measured\n")
    assert "[run](https://github.example/octo/net/actions/runs/42)" in body
    assert "1 broken of 2 measured" in job.summary
    assert (job.outputs["outcome"], job.outputs["tests"], job.outputs["broken"]) == ("failed", "2", "1")


def test_a_comment_that_is_there_is_kept_up_to_date(step: Step, job: Any, saved: Saved) -> None:
    step("publish", "--report", saved("report.json", {"test_b": 11}, limit=10))
    step("publish", "--report", saved("report.json", {"test_b": 10}, limit=10))
    (body,) = job.bodies
    assert body.startswith(f"{MARKER}### flopguard: 1 measured\n")


@pytest.mark.parametrize(("when", "quiet", "loud"), [("never", 0, 0), ("on-change", 0, 1), ("always", 1, 1)])
def test_when_to_comment(step: Step, job: Any, saved: Saved, when: str, quiet: int, loud: int) -> None:
    step("publish", "--report", saved("report.json", {"test_b": 10}), "--comment", when, "--id", "quiet")
    assert len(job.bodies) == quiet
    step("publish", "--report", saved("report.json", {"test_b": 11}, limit=10), "--comment", when, "--id", "loud")
    assert len(job.bodies) == quiet + loud


@pytest.mark.parametrize(("severity", "comments"), [("error", 1), ("warn", 0)])
def test_a_limit_that_only_warns_is_no_change(step: Step, job: Any, saved: Saved, severity: str, comments: int) -> None:
    code, log = step("publish", "--report", saved("report.json", {"test_b": 11}, limit=10, severity=severity))
    assert code == comments
    assert annotations(log)[0].startswith("::error" if comments else "::warning")
    assert len(job.bodies) == comments


def test_a_number_that_moved_from_its_baseline_is_a_change(step: Step, job: Any, saved: Saved) -> None:
    report = saved("report.json", {"test_b": 8, "test_c": 10, "test_new": 10}, baselines={"test_b": 10, "test_c": 10})
    code, _ = step("publish", "--report", report, "--fail-on", "undecided")
    assert code == 0
    (body,) = job.bodies
    assert "1 cheaper of 3 measured" in body
    # 8 - 10 FLOPs, and 4 bytes for each.
    assert (job.outputs["flops-delta"], job.outputs["memory-delta"]) == ("-2", "-8")


@pytest.mark.parametrize(
    ("before", "now", "deltas"),
    [
        ({"test_b": 10}, {"test_b": 10}, ("0", "0")),
        # 5 more and 2 less FLOPs; the larger change of a peak is 20 bytes more.
        ({"test_b": 10, "test_c": 10}, {"test_b": 15, "test_c": 8}, ("3", "20")),
        ({"test_b": 10, "test_gone": 99}, {"test_b": 5, "test_new": 7}, ("-5", "-20")),
        ({}, {"test_b": 5}, ("", "")),
    ],
)
def test_deltas_against_a_base(
    step: Step, job: Any, saved: Saved, before: dict[str, int], now: dict[str, int], deltas: tuple[str, str]
) -> None:
    code, _ = step("publish", "--report", saved("report.json", now), "--base", saved("base.json", before))
    assert code == 0
    assert (job.outputs["flops-delta"], job.outputs["memory-delta"]) == deltas


def test_a_sum_with_an_unknown_part_is_unknown(step: Step, job: Any, saved: Saved) -> None:
    base = saved("base.json", {"test_b": 10, "test_c": 10})
    data = json.loads(base.read_text())
    data["records"][1] |= {"flops": None, "findings": [], "outcome": "passed"}
    base.write_text(json.dumps(data))
    assert step("publish", "--report", saved("report.json", {"test_b": 15, "test_c": 99}), "--base", base)[0] == 0
    # test_c cost nobody knows what before; its memory is known: 4 * (99 - 10) bytes more.
    assert (job.outputs["flops-delta"], job.outputs["memory-delta"]) == ("", "356")


@pytest.mark.parametrize(("fail_on", "code"), [("budget", 0), ("regression", 1), ("undecided", 1)])
def test_a_rise_within_its_limit_fails_where_that_is_asked_for(
    step: Step, job: Any, saved: Saved, fail_on: str, code: int
) -> None:
    tests = job.folder / "tests"
    tests.mkdir()
    (tests / "test_a.py").write_text("import torch\n\n\ndef test_b():\n    ...\n")
    files = ("--report", saved("report.json", {"test_b": 11}), "--base", saved("base.json", {"test_b": 10}))
    found, log = step("publish", *files, "--fail-on", fail_on)
    assert found == code
    assert job.outputs["outcome"] == ("failed" if code else "passed")
    (told,) = annotations(log)
    level = "error" if code else "warning"
    assert told.startswith(f"::{level} file=tests/test_a.py,line=4,title=flopguard%3A regression tests/test_a.py")
    assert ("flopguard: fails the job: tests/test_a.py::test_b: dearer than base.json" in log) == bool(code)


@pytest.mark.parametrize(("fail_on", "code"), [("budget", 0), ("regression", 0), ("undecided", 1)])
def test_what_nobody_can_decide_fails_where_that_is_asked_for(
    step: Step, saved: Saved, fail_on: str, code: int
) -> None:
    report = saved("report.json", {"test_b": 10}, severity="warn")
    data = json.loads(report.read_text())
    # A limit for parameters that no model has: undecided, and it only warns.
    finding = data["records"][0]["findings"][0]
    finding |= {"quantity": "parameters", "observed": None, "status": "undecided", "code": "not-measured"}
    data["records"][0]["outcome"] = "undecided"
    report.write_text(json.dumps(data))
    found, log = step("publish", "--report", report, "--fail-on", fail_on)
    assert found == code
    assert annotations(log)[0].startswith("::error" if code else "::warning")


@pytest.mark.parametrize("event", ["push", "merge_group", "workflow_dispatch", "schedule", "release", ""])
def test_without_a_pull_request_there_is_no_comment(
    step: Step, job: Any, saved: Saved, github: GitHubServer, event: str
) -> None:
    job.start(event, {"number": 7})
    code, log = step("publish", "--report", saved("report.json", {"test_b": 11}, limit=10), "--comment", "always")
    assert code == 1
    assert log[-1] == f"flopguard: no comment: a job for {event or 'no event'} has no pull request"
    assert github.requests == []
    assert "1 broken" in job.summary
    assert len(annotations(log)) == 1


def test_without_a_token_there_is_no_comment(step: Step, job: Any, saved: Saved, github: GitHubServer) -> None:
    del job.environment["FLOPGUARD_TOKEN"]
    code, log = step("publish", "--report", saved("report.json", {"test_b": 1}), "--comment", "always")
    assert (code, log, github.requests) == (0, ["flopguard: no comment: FLOPGUARD_TOKEN is not set"], [])


def test_a_token_that_may_only_read_is_a_notice(step: Step, job: Any, saved: Saved, github: GitHubServer) -> None:
    github.read_only()
    code, log = step("publish", "--report", saved("report.json", {"test_b": 1}), "--comment", "always")
    assert code == 0
    assert log == [
        "::notice title=flopguard::no comment was written: the token may not write here (POST "
        "repos/octo/net/issues/7/comments: 403 Resource not accessible by integration) [no-comment]"
    ]


@pytest.mark.parametrize(("status", "level"), [(404, "notice"), (401, "notice"), (410, "warning"), (422, "warning")])
def test_other_refusals_never_fail_the_job(
    step: Step, saved: Saved, github: GitHubServer, status: int, level: str
) -> None:
    github.fail("POST", "/comments$", status, message="no\n::error::x")
    code, log = step("publish", "--report", saved("report.json", {"test_b": 1}), "--comment", "always")
    assert code == 0
    assert [line.partition(" ")[0] for line in log] == [f"::{level}"]


def test_a_server_in_trouble_is_a_warning(step: Step, saved: Saved, github: GitHubServer) -> None:
    github.fail("GET", "/comments$", 502)
    code, log = step("publish", "--report", saved("report.json", {"test_b": 1}), "--comment", "always")
    assert code == 0
    assert [line.partition(" ")[0] for line in log] == ["::warning"]
    assert "502" in log[0]
    assert "[no-comment]" in log[0]


def test_no_summary_where_none_is_wanted(step: Step, job: Any, saved: Saved) -> None:
    step("publish", "--report", saved("report.json", {"test_b": 1}), "--summary", "false")
    assert not (job.folder / "summary.md").exists()


def test_a_summary_is_added_to_what_is_there(step: Step, job: Any, saved: Saved) -> None:
    (job.folder / "summary.md").write_text("# Before\n")
    step("publish", "--report", saved("report.json", {"test_b": 1}))
    step("publish", "--report", saved("report.json", {"test_b": 1}), "--id", "gpu")
    assert job.summary.startswith("# Before\n### flopguard: 1 measured\n")
    assert "\n### flopguard: 1 measured (`gpu`)\n" in job.summary


def test_a_full_summary_is_left_alone(step: Step, job: Any, saved: Saved) -> None:
    (job.folder / "summary.md").write_text("x" * (1024 * 1024 - 50))
    _, log = step("publish", "--report", saved("report.json", {"test_b": 1}))
    assert "flopguard: no summary: what the step has written already leaves no room" in log
    assert len(job.summary) == 1024 * 1024 - 50


def test_legs_of_a_matrix_have_a_comment_each(step: Step, job: Any, saved: Saved) -> None:
    for leg in ("cpu", "gpu", "cpu"):
        step("publish", "--report", saved("report.json", {"test_b": 11}, limit=10), "--id", leg)
    assert [body.partition("\n")[0] for body in job.bodies] == ["<!-- flopguard:cpu -->", "<!-- flopguard:gpu -->"]


def test_legs_are_merged_into_one_comment(step: Step, job: Any, saved: Saved) -> None:
    saved("all/flops-cpu/report.json", {"test_b": 10})
    saved("all/flops-gpu/report.json", {"test_b": 11}, limit=10)
    other = saved("other/special.json", {"test_c": 1})
    code, log = step("merge", job.folder / "all", other)
    assert (code, annotations(log)) == (1, [])
    (body,) = job.bodies
    assert body.startswith("<!-- flopguard:merged -->\n### flopguard: 1 broken of 3 measured (`merged`)\n")
    assert re.findall(r"^#### (\S+):", body, flags=re.MULTILINE) == ["`flops-cpu`", "`flops-gpu`", "`special`"]
    assert (job.outputs["tests"], job.outputs["broken"], job.outputs["outcome"]) == ("3", "1", "failed")


def test_a_leg_that_left_no_report_is_not_passed_over(step: Step, job: Any, saved: Saved) -> None:
    saved("all/flops-cpu/report.json", {"test_b": 10})
    expected = ("--expect", "flops-cpu", "--expect", "flops-gpu")
    code, log = step("merge", job.folder / "all", *expected)
    assert code == 1
    assert annotations(log) == ["::error title=flopguard::flops-gpu left no report: the log of its job says why"]
    (body,) = job.bodies
    assert body.startswith("<!-- flopguard:merged -->\n### flopguard: 1 without a report of 1 measured (`merged`)\n")
    assert "#### `flops-gpu`: no report\n\n- flops-gpu left no report: the log of its job says why\n" in body
    assert (job.outputs["tests"], job.outputs["broken"], job.outputs["outcome"]) == ("1", "0", "error")
    saved("all/flops-gpu/report.json", {"test_b": 10})
    assert step("merge", job.folder / "all", *expected)[0] == 0
    assert job.bodies[0].startswith("<!-- flopguard:merged -->\n### flopguard: 2 measured (`merged`)\n")


def test_no_leg_at_all_is_told_where_one_is_expected(step: Step, job: Any) -> None:
    code, log = step("merge", "gone", "--expect", "flops-cpu")
    assert code == 1
    assert "flops-cpu left no report" in log[0]
    assert "#### " not in job.bodies[0]
    assert "### flopguard: 1 without a report of 0 measured" in job.bodies[0]


def test_all_that_cannot_be_merged_is_told_at_once(step: Step, job: Any) -> None:
    (job.folder / "all").mkdir()
    for name in ("a", "b"):
        (job.folder / "all" / f"{name}.json").write_text("{")
    code, log = step("merge", job.folder / "all")
    assert code == 2
    assert sum("[bad-report]" in line for line in log if line.startswith(("flopguard:", "/"))) == 2
    (job.folder / "none").mkdir()
    code, log = step("merge", job.folder / "none")
    assert code == 2
    assert "files, or folders with files, that end with .json" in log[-1]


def test_mistakes_are_annotations_too(step: Step, job: Any) -> None:
    code, log = step("publish", "--report", job.folder / "gone.json")
    assert code == 2
    assert log[0].startswith("::error title=flopguard::")
    assert "[bad-report]" in log[0]


@pytest.mark.parametrize("name", ["a b", "", "x" * 65, "-->", "@ada"])
def test_what_is_no_id_is_refused(step: Step, saved: Saved, capsys: pytest.CaptureFixture[str], name: str) -> None:
    with pytest.raises(SystemExit, match="2"):
        step("publish", "--report", saved("report.json", {}), f"--id={name}")
    assert "1 to 64 letters, digits and . _ / -" in capsys.readouterr().err


def test_a_comment_is_sent_by_a_later_step(step: Step, job: Any) -> None:
    draft = job.folder / "comment.json"
    draft.write_text(json.dumps({"id": "default", "body": f"{MARKER}one", "create": True}))
    assert step("comment", draft) == (0, ["flopguard: comment on pull request 7: created"])
    draft.write_text(json.dumps({"id": "default", "body": f"{MARKER}two", "create": False}))
    assert step("comment", draft) == (0, ["flopguard: comment on pull request 7: updated"])
    assert job.bodies == [f"{MARKER}two"]


@pytest.mark.parametrize(
    "draft",
    [
        "{",
        "[]",
        '{"id": "default", "body": "one", "create": true}',
        '{"id": "other", "body": "<!-- flopguard:default -->", "create": true}',
        '{"id": "a b", "body": "<!-- flopguard:a b -->", "create": true}',
        '{"id": "default", "body": "<!-- flopguard:default -->", "create": 1}',
        '{"id": "default", "body": "<!-- flopguard:default -->"}',
        json.dumps({"id": "default", "body": MARKER + "x" * 65_536, "create": True}),
    ],
)
def test_what_is_no_comment_is_not_sent(step: Step, job: Any, github: GitHubServer, draft: str) -> None:
    (job.folder / "comment.json").write_text(draft)
    code, log = step("comment", "comment.json")
    assert code == 2
    assert "a comment that flopguard github run saved" in log[-1]
    assert github.requests == []


def test_without_the_extra_the_comment_says_what_to_install(
    step: Step, saved: Saved, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "urllib3", None)
    code, (told,) = step("publish", "--report", saved("report.json", {"test_b": 1}), "--comment", "always")
    assert code == 0
    assert told.startswith("::warning title=flopguard::no comment was written: a comment needs urllib3")
    assert "pip install 'pytest-flopguard[action]'" in told
