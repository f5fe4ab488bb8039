"""What tests of commands share: a call whose JSON is read, and one that must be refused."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from github_server import GitHubServer

from pytest_flopguard.cli import main
from pytest_flopguard.core.baseline import Baseline, baseline_of
from pytest_flopguard.core.expectation import Expectation, Origin, Severity
from pytest_flopguard.core.measurement import FlopTally, Measurement, MemoryPeak, OpCount
from pytest_flopguard.core.record import Record, RunReport
from pytest_flopguard.core.verdict import judge
from pytest_flopguard.reporters import json_file

Ask = Callable[..., dict[str, Any]]
Refused = Callable[..., list[str]]


@pytest.fixture
def ask(capsys: pytest.CaptureFixture[str]) -> Ask:
    """Run a command with --json and return its document."""

    def run(*arguments: str) -> dict[str, Any]:
        assert main([*arguments, "--json"]) == 0
        document: dict[str, Any] = json.loads(capsys.readouterr().out)
        return document

    return run


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a command and return what it prints."""

    def run(*arguments: str) -> str:
        assert main([*arguments]) == 0
        return capsys.readouterr().out

    return run


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Refused:
    """Run a command that must end with 2 and print nothing, and return the lines of its error."""

    def run(*arguments: str) -> list[str]:
        assert main([*arguments]) == 2
        out, error = capsys.readouterr()
        assert out == ""
        assert error.startswith("flopguard: ")
        return error.removeprefix("flopguard: ").splitlines()

    return run


@dataclass
class Job:
    """A job of GitHub Actions in a folder: what it is started with, and what it left."""

    folder: Path
    github: GitHubServer
    environment: dict[str, str] = field(default_factory=dict)

    def start(self, event: str, payload: Mapping[str, Any]) -> None:
        """Be a job for an event."""
        (self.folder / "event.json").write_text(json.dumps(payload))
        self.environment |= {"GITHUB_EVENT_NAME": event, "GITHUB_EVENT_PATH": str(self.folder / "event.json")}

    @property
    def outputs(self) -> dict[str, str]:
        """The outputs, read as the runner reads them."""
        text = (self.folder / "output").read_text("utf-8")
        return {
            found[1]: found[3] for found in re.finditer(r"^([\w-]+)<<(\S+)\n(.*?)\n\2$", text, re.DOTALL | re.MULTILINE)
        }

    @property
    def summary(self) -> str:
        """The step's summary."""
        return (self.folder / "summary.md").read_text("utf-8")

    @property
    def bodies(self) -> list[str]:
        """The comments on pull request 7."""
        return self.github.bodies("octo/net", 7)


@pytest.fixture
def job(tmp_path: Path, github: GitHubServer, monkeypatch: pytest.MonkeyPatch) -> Job:
    """A job for pull request 7 of octo/net, whose token may comment."""
    for name in os.environ:
        if name.startswith(("GITHUB_", "FLOPGUARD_", "RUNNER_")):
            monkeypatch.delenv(name)
    environment = {
        "GITHUB_API_URL": github.url,
        "GITHUB_OUTPUT": str(tmp_path / "output"),
        "GITHUB_REPOSITORY": "octo/net",
        "GITHUB_RUN_ID": "42",
        "GITHUB_SERVER_URL": "https://github.example",
        "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md"),
        "GITHUB_WORKSPACE": str(tmp_path),
        "RUNNER_TEMP": str(tmp_path),
        "FLOPGUARD_TOKEN": "secret",
    }
    made = Job(tmp_path, github, environment)
    made.start("pull_request", {"pull_request": {"number": 7}})
    return made


@pytest.fixture
def step(
    job: Job, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, list[str]]]:
    """Run a step of the job in this process, and return its exit code and log."""

    def run(*arguments: str | Path) -> tuple[int, list[str]]:
        monkeypatch.chdir(job.folder)
        with monkeypatch.context() as patch:
            for name, value in job.environment.items():
                patch.setenv(name, value)
            code = main(["github", *map(str, arguments)])
        said = capsys.readouterr()
        return code, (said.out + said.err).splitlines()

    return run


@pytest.fixture
def saved(tmp_path: Path) -> Callable[..., Path]:
    """Save a report whose tests cost so many FLOPs, with a limit on each, and the baselines that they are held to."""

    def save(
        name: str,
        tests: Mapping[str, int],
        limit: int = 1000,
        baselines: Mapping[str, int] | None = None,
        severity: Severity = "error",
    ) -> Path:
        records = []
        for test, flops in tests.items():
            seen = _measured(flops)
            nodeid = f"tests/test_a.py::{test}"
            wanted = Expectation(
                quantity="flops", high=limit, origin=Origin(path="pyproject.toml", line=3), severity=severity
            )
            before = None if baselines is None or test not in baselines else _accepted(baselines[test])
            record = Record(nodeid=nodeid, measurement=seen, findings=judge(seen, [wanted]), baseline=before)
            ended = "failed" if record.outcome == "failed" else "passed"
            records.append(
                Record(nodeid=nodeid, measurement=seen, findings=record.findings, baseline=before, test=ended)
            )
        run = RunReport(tool={}, environment={"torch": "2.13.0", "python": "3.12.1"}, records=tuple(records))
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json_file.render(run), encoding="utf-8")
        return path

    return save


def _measured(flops: int) -> Measurement:
    count = OpCount(op="aten.mm", module="Net.0", phase="forward", kind="counted", calls=1, flops=flops)
    peak = MemoryPeak(device="cpu", backend="storages", start_bytes=0, peak_bytes=4 * flops)
    return Measurement(flops=FlopTally(counts=(count,), engine="dispatch"), memory=(peak,))


def _accepted(flops: int) -> Baseline:
    return baseline_of(_measured(flops), "2.13.0")


@pytest.fixture
def git(tmp_path: Path) -> Callable[..., str]:
    """Make tmp_path a repository and return a way to run git in it, or in a folder of it."""

    def run(*arguments: str, folder: Path = tmp_path) -> str:
        identity = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org", "-c", "commit.gpgsign=false"]
        done = subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    run("init", "-q", "-b", "main")
    return run
