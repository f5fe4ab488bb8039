"""An estimate: every figure that a model, a workload and a machine come to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pytest_flopguard.core.figure import Figure
from pytest_flopguard.formulas.architectures.models import parameter_terms
from pytest_flopguard.formulas.breakdown import Breakdown
from pytest_flopguard.formulas.estimates.asked import Machine, Subject, Workload
from pytest_flopguard.formulas.estimates.duration import time_figures
from pytest_flopguard.formulas.estimates.space import memory_figures
from pytest_flopguard.formulas.estimates.work import form_of, parameter_figures, run_figures, step_figures


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """``figures`` by dotted name (``flops.total``, ``memory.weights``), and the closed form that they come from."""

    subject: Subject
    workload: Workload
    form: Breakdown | None
    figures: Mapping[str, Figure]

    @property
    def parameter_terms(self) -> dict[str, int]:
        """Parameters by part; empty where only their number is known."""
        return {} if self.subject.sizes is None else parameter_terms(self.subject.sizes)


def estimate(subject: Subject, work: Workload, machine: Machine | None = None) -> Estimate:
    """Estimate one step, and the training run that it is part of where ``work.tokens`` says how long that is.

    FLOPs and bytes are exact integers; times and shares are floats. What does not apply or is not known is a Figure
    with the value None and a reason. Source: the closed forms of ``architectures``, ``memory``, ``scaling`` and
    ``hardware``.
    """
    form = form_of(subject, work)
    return Estimate(
        subject=subject,
        workload=work,
        form=form,
        figures={
            **parameter_figures(subject),
            **step_figures(subject, work, form),
            **run_figures(subject, work, form),
            **memory_figures(subject, work, machine),
            **time_figures(subject, work, form, machine),
        },
    )
