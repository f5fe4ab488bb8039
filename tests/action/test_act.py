"""The runner that the tests of the action believe."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from action.act import Act, Annotation, WorkflowRun, parse_annotation
from action.project import Project

JOB = """\
on: push
jobs:
  {name}:
    runs-on: {label}
    steps:
      - id: step
        run: echo "[$GITHUB_TOKEN]"; echo "::error file=a%2Cb.py,line=3::tests/t.py::test_a%0Afailed"; exit {code}
"""


@pytest.mark.parametrize(
    ("line", "level", "properties", "message"),
    [
        ("::error::told", "error", {}, "told"),
        # The message begins at the first "::", so a node id may stand in it.
        ("::warning file=t.py,line=3::t.py::test_a", "warning", {"file": "t.py", "line": "3"}, "t.py::test_a"),
        ("  ::notice title=a%3A%3Ab%2C%25::x%0Ay%25\r\n", "notice", {"title": "a::b,%"}, "x\ny%"),
        # One escape at a time: "%250A" is the text "%0A".
        ("::error::%250A", "error", {}, "%0A"),
    ],
)
def test_commands_are_read_as_the_runner_reads_them(
    line: str, level: str, properties: dict[str, str], message: str
) -> None:
    assert parse_annotation(line) == Annotation(level=level, properties=properties, message=message)


@pytest.mark.parametrize(
    "line", ["", "error::told", "said ::error::told", "::error", "::group::told", ":: error::told"]
)
def test_what_is_no_command(line: str) -> None:
    assert parse_annotation(line) is None


def test_a_missing_act_is_a_reason_to_skip_or_to_fail(
    find_act: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FLOPGUARD_REQUIRE_ACT", raising=False)
    with pytest.raises(pytest.skip.Exception, match="act is not installed"):
        find_act(str(tmp_path))
    monkeypatch.setenv("FLOPGUARD_REQUIRE_ACT", "1")
    with pytest.raises(pytest.fail.Exception, match="act is not installed"):
        find_act(str(tmp_path))


@pytest.mark.slow
def test_a_run_tells_what_it_did(act: Act, project: Project) -> None:
    project.write({".github/workflows/flops.yml": JOB.format(name="red", label="ubuntu-latest", code=3)})
    project.commit()
    run = act.run(project.folder, "push")
    assert (run.code, run.jobs, run.steps()) == (1, {"red": "failure"}, {"step": "failure"}), run.told()
    properties = {"file": "a,b.py", "line": "3"}
    assert run.annotations == [Annotation(level="error", properties=properties, message="tests/t.py::test_a\nfailed")]
    # As on GitHub, no step has the token that does not ask for it.
    assert "[]" in run.lines


def test_stopped_commands_are_text() -> None:
    lines = ["::error::one", "::stop-commands::abc", "::error::two", "::abc:: no", "::abc::", "::error::three", ""]
    events = tuple({"msg": f"{line}\n", "raw_output": True} for line in lines)
    run = WorkflowRun(code=0, events=events, errors="", jobs={})
    assert [each.message for each in run.annotations] == ["one", "three"]


@pytest.mark.slow
def test_a_job_that_no_machine_takes_is_seen(act: Act, project: Project) -> None:
    project.write({".github/workflows/flops.yml": JOB.format(name="lost", label="windows-latest", code=3)})
    project.commit()
    run = act.run(project.folder, "push")
    # Nothing ran, and act is content.
    assert (run.code, run.jobs, run.steps()) == (0, {}, {})
