"""Runs a workflow with nektos/act on this machine, without containers, and tells what it did."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# act hands its whole environment on to the steps, so it gets a small one; no Python but the jobs' own may be found.
PROGRAMS = "/usr/local/bin:/usr/bin:/bin"
LEVELS = ("error", "warning", "notice")
LABELS = ("ubuntu-latest", "gpu")
TOKEN = "ghs_token_of_the_job"


@dataclass(frozen=True, slots=True, kw_only=True)
class Annotation:
    """One line that the runner shows beside the code."""

    level: str
    properties: Mapping[str, str]
    message: str


def parse_annotation(line: str) -> Annotation | None:
    """Read a workflow command as actions/runner does (ActionCommand.TryParseV2).

    act itself splits at the last ``::``, which is wrong for node ids of pytest.
    """
    text = line.strip().removesuffix("\r")
    command, found, message = text.removeprefix("::").partition("::")
    name, _, given = command.partition(" ")
    if not text.startswith("::") or not found or name.lower() not in LEVELS:
        return None
    pairs = (each.partition("=") for each in given.split(","))
    properties = {key.strip(): _plain(value, more={":": "%3A", ",": "%2C"}) for key, _, value in pairs if value}
    return Annotation(level=name.lower(), properties=properties, message=_plain(message))


def _plain(text: str, more: Mapping[str, str] | None = None) -> str:
    for character, escaped in {"\r": "%0D", "\n": "%0A", **(more or {}), "%": "%25"}.items():
        text = text.replace(escaped, character)
    return text


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowRun:
    """What act told of a run, event by event."""

    code: int
    events: tuple[dict[str, Any], ...]
    errors: str
    # Which jobs ran, and how they ended. One whose label no machine has is absent: act skips it and exits with 0.
    jobs: Mapping[str, str]

    def of(self, **wanted: object) -> Iterator[dict[str, Any]]:
        """Yield the events that have these values."""
        return (each for each in self.events if all(each.get(name) == value for name, value in wanted.items()))

    @property
    def summary(self) -> str:
        """The step summaries, in order."""
        return "".join(each["content"] for each in self.of(command="summary"))

    @property
    def lines(self) -> list[str]:
        """What the steps printed, their workflow commands included."""
        events = (each for each in self.events if "raw" in each or "raw_output" in each)
        return [line for each in events for line in (each.get("raw") or each["msg"]).splitlines()]

    @property
    def log(self) -> str:
        """The same as one text."""
        return "\n".join(self.lines)

    @property
    def annotations(self) -> list[Annotation]:
        """What would be shown beside the code: commands, but not those that are printed while commands are stopped."""
        found, resume = [], ""
        for line in map(str.strip, self.lines):
            if resume:
                resume = "" if line == f"::{resume}::" else resume
            elif line.startswith("::stop-commands::"):
                resume = line.removeprefix("::stop-commands::")
            elif annotation := parse_annotation(line):
                found.append(annotation)
        return found

    def steps(self) -> dict[str, str]:
        """How each step ended that has an id, ``outer/inner`` for those of the action."""
        return {
            "/".join(each["stepID"]): each["stepResult"]
            for each in self.of(stage="Main")
            if "stepResult" in each and each.get("stepID")
        }

    def outputs(self, *step: str) -> dict[str, str]:
        """Return what a step put out."""
        return {each["name"]: each["arg"] for each in self.of(command="set-output", stepID=list(step))}

    def told(self) -> str:
        """Everything, for the message of a failed assertion."""
        return "\n".join([*(str(each.get("raw") or each["msg"]).rstrip() for each in self.events), self.errors])


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """A runner: the program, a Python for the jobs, where it keeps its files, and the actions that it knows."""

    program: Path
    scripts: Path
    folder: Path
    actions: Mapping[str, Path]
    environment: Mapping[str, str] = field(default_factory=dict)

    def run(
        self,
        repository: Path,
        event: str,
        payload: Mapping[str, Any] | None = None,
        *,
        workflow: str = ".github/workflows/flops.yml",
        token: str = TOKEN,
    ) -> WorkflowRun:
        """Run a workflow of a repository for an event."""
        home = self.folder / "home"
        home.mkdir(parents=True, exist_ok=True)
        (self.folder / "event.json").write_text(json.dumps(payload or {}), encoding="utf-8")
        # One job after the other: their machines are their own on GitHub, and one Python here.
        command = [str(self.program), event, "--json", "--rm", "--no-cache-server", "--concurrent-jobs", "1"]
        command += ["--workflows", workflow, "--eventpath", str(self.folder / "event.json")]
        command += ["--action-cache-path", str(self.folder / "cache"), "--secret", "GITHUB_TOKEN"]
        command += [word for label in LABELS for word in ("--platform", f"{label}=-self-hosted")]
        command += [word for name in ("env", "secret", "var", "input") for word in (f"--{name}-file", os.devnull)]
        command += [word for uses, path in self.actions.items() for word in ("--local-repository", f"{uses}={path}")]
        command += [word for name, value in self.environment.items() for word in ("--env", f"{name}={value}")]
        run = subprocess.run(
            command,
            cwd=repository,
            env={
                "PATH": f"{self.scripts}:{PROGRAMS}",
                "HOME": str(home),
                "ACT_DISABLE_VERSION_CHECK": "1",
                "GITHUB_TOKEN": token,
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        events = tuple(json.loads(line) for line in run.stdout.splitlines() if line.startswith("{"))
        jobs = {each["job"].split("/", 1)[1].strip(): each["jobResult"] for each in events if "jobResult" in each}
        return WorkflowRun(code=run.returncode, events=events, errors=run.stderr, jobs=jobs)
