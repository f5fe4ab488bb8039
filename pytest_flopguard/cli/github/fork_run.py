"""A workflow_run event, and the pull request whose run it was."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pytest_flopguard.cli.github.api import Api
from pytest_flopguard.cli.github.job import Job
from pytest_flopguard.core.errors import UsageError, problem

_SHA = re.compile(r"[0-9a-f]+")


class NoPullRequestError(Exception):
    """There is no pull request to comment on; the text is the reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ForkRun:
    """The run that an event tells of: whose code it ran, and its number."""

    event: str
    sha: str
    repository: str
    branch: str
    number: int


def fork_run(job: Job) -> ForkRun:
    """Read the event, which GitHub wrote; UsageError for any other one."""
    given: Any = job.event.get("workflow_run")
    if job.event_name != "workflow_run" or not isinstance(given, Mapping):
        expected = "workflow_run: this is for a workflow that runs after another one"
        name, value = "GITHUB_EVENT_NAME", job.event_name
        raise UsageError([problem("bad-value", "environment", name=name, value=value, expected=expected, hint="")])
    head, number = given.get("head_repository"), given.get("id")
    return ForkRun(
        event=str(given.get("event", "")),
        sha=str(given.get("head_sha", "")),
        repository=str(head.get("full_name", "")) if isinstance(head, Mapping) else "",
        branch=str(given.get("head_branch", "")),
        number=number if type(number) is int else 0,
    )


def pull_request_of(run: ForkRun, api: Api, repository: str) -> int:
    """Return the number of the one open pull request whose head was run; NoPullRequestError where there is none.

    Nothing that the run left behind is asked: its code may have written what it liked.
    """
    if run.event != "pull_request":
        raise NoPullRequestError(f"the run was for {run.event or 'no event'}, not for a pull request")
    # The list by commit knows none of a fork's: its head's branch leads there.
    branch = f"{run.repository.partition('/')[0]}:{run.branch}"
    places: tuple[tuple[str, dict[str, str]], ...] = (
        (f"/repos/{repository}/pulls", {"state": "open", "head": branch}),
        (f"/repos/{repository}/commits/{run.sha}/pulls", {}),
    )
    for path, query in places if _SHA.fullmatch(run.sha) else ():
        found: set[int] = {each["number"] for each in api.pages(path, **query) if _is_of(each, run)}
        if len(found) > 1:
            raise NoPullRequestError(f"more than one pull request has the head {run.sha[:12]}")
        if found:
            return found.pop()
    raise NoPullRequestError(f"no open pull request has the head {run.sha[:12]} any more")


def _is_of(pull: Mapping[str, Any], run: ForkRun) -> bool:
    head = pull.get("head")
    repository = head.get("repo") if isinstance(head, Mapping) else None
    return (
        isinstance(head, Mapping)
        and isinstance(repository, Mapping)
        and type(pull.get("number")) is int
        and pull.get("state") == "open"
        and head.get("sha") == run.sha
        and repository.get("full_name") == run.repository
    )
