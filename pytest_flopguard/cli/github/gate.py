"""What fails the job."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from pytest_flopguard.cli.github.inputs import FailOn
from pytest_flopguard.core.standing import fails
from pytest_flopguard.reporters.github_entries import Leg

Outcome = Literal["passed", "failed", "error"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """The exit code, the outcome in a word, and why the job fails where no measured test did."""

    code: int
    outcome: Outcome
    reasons: tuple[str, ...] = ()


def gate(legs: Sequence[Leg], fail_on: FailOn, *, pytest_code: int | None = None) -> Gate:
    """Judge runs; without pytest's exit code a test that failed in them counts for it, and so does a lost run.

    ``"error"`` is a run that failed, and on no limit.
    """
    broke = any(each.broken for leg in legs for each in leg.entries)
    failed = any(fails(each.record, each.standing) for leg in legs for each in leg.entries)
    code = int(failed or any(leg.lost for leg in legs)) if pytest_code is None else pytest_code
    if code:
        other = f"pytest ended with {code}, and not because of a measured test"
        told = not failed and pytest_code is not None
        return Gate(code=code, outcome="failed" if broke else "error", reasons=(other,) if told else ())
    reasons = tuple(_reasons(legs, fail_on))
    return Gate(code=int(bool(reasons)), outcome="failed" if reasons else "passed", reasons=reasons)


def _reasons(legs: Sequence[Leg], fail_on: FailOn) -> Iterator[str]:
    for leg in legs:
        for each in leg.entries if fail_on != "budget" else ():
            # Beside a test stands its own baseline, with tolerances, which pytest has held it to already.
            if leg.has_base and each.dearer:
                yield f"{each.title}: dearer than {leg.against}"
            elif fail_on == "undecided" and (each.open or (leg.has_base and each.unclear)):
                yield f"{each.title}: undecided"
