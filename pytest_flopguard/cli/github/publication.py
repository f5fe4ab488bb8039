"""Legs published in a job: annotations in the log, its summary, and the comment. None of it fails the job."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pytest_flopguard.cli.github import draft_file
from pytest_flopguard.cli.github.api import Api, ApiError, DeniedError
from pytest_flopguard.cli.github.draft_file import Draft
from pytest_flopguard.cli.github.inputs import Comment, FailOn, Inputs
from pytest_flopguard.cli.github.job import Job
from pytest_flopguard.cli.github.outputs import say, tell, write
from pytest_flopguard.cli.github.sticky import write as write_comment
from pytest_flopguard.core.errors import message
from pytest_flopguard.reporters import github_annotations, github_comment, github_summary
from pytest_flopguard.reporters.github_annotations import Locate
from pytest_flopguard.reporters.github_body import problem_body
from pytest_flopguard.reporters.github_entries import Leg
from pytest_flopguard.reporters.one_line import one_line

_REASON = 300


def annotate(leg: Leg, locate: Locate, fail_on: FailOn) -> None:
    """Write the worst findings of a run as annotations."""
    write(github_annotations.render(leg, locate, rises_fail=fail_on != "budget", open_fails=fail_on == "undecided"))
    for each in leg.notes:
        tell("notice", each)
    new = sum(each.word == "new" for each in leg.entries)
    if new:
        tell("notice", f"{new} measured without a baseline yet: pytest --flop-update=new writes it")


def summarize(job: Job, legs: Sequence[Leg]) -> None:
    """Append runs to the summary of the step."""
    written = job.summary.stat().st_size if job.summary is not None and job.summary.exists() else 0
    text = github_summary.render(legs, written=written)
    if not text:
        say("no summary: what the step has written already leaves no room")
    else:
        _append(job, text)


def comment(job: Job, legs: Sequence[Leg], name: str, when: Comment, later: Path | None = None) -> str:
    """Write runs as a comment on the pull request that the job runs for, or say why not.

    Without a token the comment is put into the file ``later``, whose name is returned; otherwise nothing is.
    """
    return _put(job, draft_of(legs, name, when, job.link), when, later)


def tell_problem(job: Job, problem: str, inputs: Inputs, later: Path) -> str:
    """Tell everywhere why there is no run; a comment only takes the place of an earlier one."""
    tell("error", problem)
    if inputs.summary:
        _append(job, problem_body(problem))
    body = github_comment.render_problem(problem, inputs.name, link=job.link)
    return _put(job, Draft(id=inputs.name, body=body, create=False), inputs.comment, later)


def _append(job: Job, text: str) -> None:
    if job.summary is None:
        say("no summary: GITHUB_STEP_SUMMARY is not set")
        return
    with job.summary.open("a", encoding="utf-8", newline="\n") as stream:
        stream.write(text)


def _put(job: Job, draft: Draft, when: Comment, later: Path | None) -> str:
    if when == "never":
        return ""
    if job.pull_request is None:
        say(f"no comment: a job for {job.event_name or 'no event'} has no pull request")
    elif job.token:
        send(job, job.pull_request, draft)
    elif later is not None:
        draft_file.save(draft, later)
        return str(later)
    else:
        say("no comment: FLOPGUARD_TOKEN is not set")
    return ""


def draft_of(legs: Sequence[Leg], name: str, when: Comment, link: str) -> Draft:
    """Return runs as a comment, which is made where something moved or where it is always wanted."""
    create = when == "always" or any(each.moved for each in legs)
    return Draft(id=name, body=github_comment.render(legs, name, link=link), create=create)


def send(job: Job, number: int, draft: Draft) -> None:
    """Write a comment on a pull request; one that is there is always kept up to date."""
    try:
        api = Api(job.api_url, job.token)
        done = write_comment(api, job.repository, number, draft.id, draft.body, create=draft.create)
    except ApiError as error:
        not_written(error)
    else:
        say(f"comment on pull request {number}: {done}")


def not_written(error: ApiError) -> None:
    """Tell why there is no comment, as what it is: usual for a pull request from a fork, or a fault."""
    reason = one_line(str(error), _REASON)
    if isinstance(error, DeniedError):
        tell("notice", message("no-comment", reason=f"the token may not write here ({reason})"))
    else:
        tell("warning", message("no-comment", reason=reason))
