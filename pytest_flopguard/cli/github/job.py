"""The job of GitHub Actions that this process runs in, from GITHUB_* variables and the event's file."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import gettempdir
from typing import Any

from pytest_flopguard.core.errors import UsageError, problem

# What a job runs for that is a pull request; others have none to comment on.
_WITH_PULL_REQUEST = ("pull_request", "pull_request_target")
_API = "https://api.github.com"
# Nothing else may reach git. All zeros stand for no commit: a branch that is new.
_COMMIT = re.compile(r"(?!0+$)(?:[0-9a-f]{40}|[0-9a-f]{64})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Where a job runs and for what. Empty texts and None where there is no job, as on a desk.

    ``event`` is the webhook's payload, ``token`` is FLOPGUARD_TOKEN, ``folder`` is for files of the job.
    """

    event_name: str = ""
    event: Mapping[str, Any] = field(default_factory=dict)
    repository: str = ""
    workspace: Path = field(default_factory=Path)
    folder: Path = field(default_factory=lambda: Path(gettempdir()))
    api_url: str = _API
    server_url: str = ""
    run_id: str = ""
    token: str = ""
    output: Path | None = None
    summary: Path | None = None

    @property
    def pull_request(self) -> int | None:
        """The number of the pull request that the job runs for."""
        number = self._at("pull_request", "number")
        return number if self.event_name in _WITH_PULL_REQUEST and type(number) is int else None

    @property
    def link(self) -> str:
        """Where this run is shown."""
        return self.run_link(int(self.run_id)) if self.run_id.isdecimal() else ""

    def run_link(self, number: int) -> str:
        """Return where a run of the repository is shown, empty where that is not known."""
        there = self.server_url and self.repository
        return f"{self.server_url}/{self.repository}/actions/runs/{number}" if there else ""

    @property
    def base(self) -> str:
        """The commit that the job's change starts at: a pull request's base, a merge group's, what a push found."""
        places = {"pull_request": ("pull_request", "base", "sha"), "merge_group": ("merge_group", "base_sha")}
        places |= {"pull_request_target": places["pull_request"], "push": ("before",)}
        found = self._at(*places[self.event_name]) if self.event_name in places else ""
        return found if isinstance(found, str) and _COMMIT.fullmatch(found) else ""

    def _at(self, *keys: str) -> object:
        found: object = self.event
        for key in keys:
            found = found.get(key) if isinstance(found, Mapping) else None
        return found


def read_job(environment: Mapping[str, str]) -> Job:
    """Read the variables; UsageError where the event's file is none."""

    def path(name: str) -> Path | None:
        return Path(environment[name]) if environment.get(name) else None

    get = environment.get
    return Job(
        event_name=get("GITHUB_EVENT_NAME", ""),
        event=_event(path("GITHUB_EVENT_PATH")),
        repository=get("GITHUB_REPOSITORY", ""),
        workspace=path("GITHUB_WORKSPACE") or Path.cwd(),
        folder=path("RUNNER_TEMP") or Path(gettempdir()),
        api_url=(get("GITHUB_API_URL") or _API).rstrip("/"),
        server_url=get("GITHUB_SERVER_URL", ""),
        run_id=get("GITHUB_RUN_ID", ""),
        token=get("FLOPGUARD_TOKEN", ""),
        output=path("GITHUB_OUTPUT"),
        summary=path("GITHUB_STEP_SUMMARY"),
    )


def _event(path: Path | None) -> Mapping[str, Any]:
    if path is None:
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        name, expected = "GITHUB_EVENT_PATH", f"the event as JSON ({error})"
        wrong = problem("bad-value", "environment", name=name, value=str(path), expected=expected, hint="")
        raise UsageError([wrong]) from error
    return found if isinstance(found, dict) else {}
