"""The steps of a job: run and publish, comment, publish what was saved, merge reports, comment for a fork."""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import mkdtemp

from pytest_flopguard.cli import sides
from pytest_flopguard.cli.github import draft_file, publication
from pytest_flopguard.cli.github.api import Api, ApiError
from pytest_flopguard.cli.github.base import find_base
from pytest_flopguard.cli.github.fork_run import NoPullRequestError, fork_run, pull_request_of
from pytest_flopguard.cli.github.gate import Gate, gate
from pytest_flopguard.cli.github.inputs import read_inputs
from pytest_flopguard.cli.github.job import Job, read_job
from pytest_flopguard.cli.github.legs import Base, leg_of, lost_leg
from pytest_flopguard.cli.github.outputs import say, tell, write_outputs
from pytest_flopguard.cli.github.pytest_run import run_pytest
from pytest_flopguard.cli.github.saved_reports import load_all
from pytest_flopguard.cli.github.spots import locate, root_of
from pytest_flopguard.cli.github.untrusted_report import load_untrusted
from pytest_flopguard.core.errors import message
from pytest_flopguard.reporters import json_file
from pytest_flopguard.reporters.github_entries import Leg


def run(_: Namespace) -> int:
    """Run pytest and publish what it measured; exits as pytest does, and with 1 where only the gate fails."""
    job = read_job(os.environ)
    inputs = read_inputs(os.environ, job.workspace)
    folder = Path(mkdtemp(prefix="flopguard-", dir=job.folder))
    ended = run_pytest(inputs.working_directory, inputs.args, folder / "report.json")
    if ended.report is None:
        later = publication.tell_problem(job, ended.problem, inputs, folder / "comment.json")
        write_outputs(job.output, {"outcome": "error", "comment-json": later})
        return ended.code or 1
    root = root_of(ended.report, inputs.working_directory, job.workspace)
    base = None if inputs.compare_to == "none" else find_base(job, inputs, root, folder)
    leg = leg_of(inputs.name, ended.report, base)
    judged = gate([leg], inputs.fail_on, pytest_code=ended.code)
    publication.annotate(leg, locate(root, job.workspace), inputs.fail_on)
    if judged.outcome == "error":
        leg = replace(leg, notes=(*leg.notes, *judged.reasons))
    if inputs.summary:
        publication.summarize(job, [leg])
    later = publication.comment(job, [leg], inputs.name, inputs.comment, folder / "comment.json")
    return _conclude(job, [leg], judged, ended.file, later)


def comment(options: Namespace) -> int:
    """Send the comment that ``run`` saved: a step of its own, so that the tests' step needs no token."""
    job = read_job(os.environ)
    draft = draft_file.load(options.file)
    if job.pull_request is None:
        say(f"no comment: a job for {job.event_name or 'no event'} has no pull request")
    else:
        publication.send(job, job.pull_request, draft)
    return 0


def publish(options: Namespace) -> int:
    """Publish a report that was saved; exits with 1 where a test in it failed, or the gate fails."""
    job = read_job(os.environ)
    report = json_file.load(options.report)
    base = None
    if options.base is not None:
        numbers = sides.of_report(json_file.load(options.base))
        base = Base(numbers=numbers, name=options.base.name, measured=True)
    leg = leg_of(options.id, report, base)
    judged = gate([leg], options.fail_on)
    publication.annotate(leg, locate(root_of(report, Path.cwd(), job.workspace), job.workspace), options.fail_on)
    if options.summary == "true":
        publication.summarize(job, [leg])
    publication.comment(job, [leg], options.id, options.comment)
    return _conclude(job, [leg], judged, options.report)


def merge(options: Namespace) -> int:
    """Publish the reports of several jobs as one; exits with 1 where a test in them failed, or one is missing."""
    job = read_job(os.environ)
    # A folder that no artifact came to is not there; whoever expects some is told which.
    there = [each for each in options.reports if each.exists() or not options.expect]
    found = load_all(there, none=bool(options.expect))
    lost = [lost_leg(name) for name in dict.fromkeys(options.expect) if name not in found]
    for each in lost:
        tell("error", each.notes[0])
    legs = [*lost, *(leg_of(name, run) for name, run in found.items())]
    if options.summary == "true":
        publication.summarize(job, legs)
    publication.comment(job, legs, options.id, options.comment)
    return _conclude(job, legs, gate(legs, "budget"), None)


def fork_comment(options: Namespace) -> int:
    """Comment on the pull request whose run a workflow_run event tells of."""
    job = read_job(os.environ)
    ran = fork_run(job)
    if options.comment == "never":
        return 0
    if not os.path.lexists(options.report):
        tell("notice", message("no-comment", reason=f"that run left no {options.report.name}"))
        return 0
    leg = leg_of(options.id, load_untrusted(options.report), trusted=False)
    try:
        number = pull_request_of(ran, Api(job.api_url, job.token), job.repository)
    except NoPullRequestError as error:
        tell("notice", message("no-comment", reason=error))
    except ApiError as error:
        publication.not_written(error)
    else:
        draft = publication.draft_of([leg], options.id, options.comment, job.run_link(ran.number))
        publication.send(job, number, draft)
    return 0


def _conclude(job: Job, legs: Sequence[Leg], judged: Gate, report: Path | None, comment: str = "") -> int:
    """Tell why the job fails, and write the outputs."""
    for each in judged.reasons[:10]:
        say(f"fails the job: {each}")
    flops = [now - before for leg in legs for before, now in leg.delta("flops")]
    memory = [now - before for leg in legs for before, now in leg.delta("peak_memory", "memory_growth")]
    compared = any(leg.against for leg in legs)
    values = {
        "outcome": judged.outcome,
        "report-json": report or "",
        "comment-json": comment,
        "flops-delta": sum(flops) if compared and not any(leg.unknown_flops for leg in legs) else "",
        "memory-delta": max(memory, key=abs, default=0) if compared else "",
        "tests": sum(leg.tests for leg in legs),
        "broken": sum(leg.broken for leg in legs),
    }
    write_outputs(job.output, values)
    return judged.code
