"""What another engine's count of the same forward call expects of the measured one."""

from __future__ import annotations

from pytest_flopguard.core.expectation import Expectation, Origin
from pytest_flopguard.core.measurement import FlopTally
from pytest_flopguard.core.verdict import Finding


def agreement(opinion: FlopTally) -> Expectation | Finding:
    """Expect the forward FLOPs that another engine counted; one that lacks a formula leaves it undecided."""
    origin = _origin(opinion.engine)
    if opinion.total is None:
        ops = ", ".join(sorted({each.op for each in opinion.unknown_ops}))
        return undecided(opinion.engine, f"{opinion.engine} has no formula for {ops}")
    return Expectation(
        quantity="forward_flops", low=opinion.total, high=opinion.total, origin=origin, source="cross-check"
    )


def undecided(engine: str, reason: str) -> Finding:
    """Say why an engine has no opinion."""
    expectation = Expectation(quantity="forward_flops", origin=_origin(engine), source="cross-check")
    return Finding(expectation=expectation, observed=None, status="undecided", code="not-measured", reason=reason)


def _origin(engine: str) -> Origin:
    return Origin(path="cross-check", text=engine)
