"""Equal-compute slices of a loss surface, and the efficient frontier through their lowest points.

Hoffmann et al. 2022 (arXiv 2203.15556), sections 3.2 and 3.3. Losses are floats; N and D are whole numbers.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import exp, log

from pytest_flopguard.core.errors import SizeError, message, unknown_name
from pytest_flopguard.formulas.rates import above_zero
from pytest_flopguard.formulas.scaling.kaplan_loss import KAPLAN_FITS, KaplanFit
from pytest_flopguard.formulas.scaling.parametric_loss import FITS, FLOPS_PER_PARAMETER_AND_TOKEN, Fit
from pytest_flopguard.formulas.sizes import positive


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A model of N parameters trained on D tokens: its compute (what was asked for) and its loss."""

    compute: int
    parameters: int
    tokens: int
    loss: float

    @property
    def tokens_per_parameter(self) -> float:
        """D / N, about 20 on Chinchilla's frontier."""
        return self.tokens / self.parameters


def loss_law(by: str | Fit | KaplanFit) -> Fit | KaplanFit:
    """Return a fit of either form by name, or a custom one as it is; UnknownNameError names the nearest."""
    if not isinstance(by, str):
        return by
    laws: dict[str, Fit | KaplanFit] = {**FITS, **KAPLAN_FITS}
    if by not in laws:
        raise unknown_name("fit", by, laws)
    return laws[by]


def point(compute: int, parameters: int, *, by: str | Fit | KaplanFit = "chinchilla") -> Point:
    """Return the point of a slice at N: D = C // (6N); SizeError where that leaves no token."""
    work, count = positive("compute", compute), positive("parameters", parameters)
    tokens = work // (FLOPS_PER_PARAMETER_AND_TOKEN * count)
    if not tokens:
        rule = f"compute // 6 = {work // FLOPS_PER_PARAMETER_AND_TOKEN} or less, one token at least"
        raise SizeError(message("bad-size", name="parameters", value=count, rule=rule))
    return Point(compute=work, parameters=count, tokens=tokens, loss=loss_law(by).loss(count, tokens))


def best(compute: int, *, by: str | Fit | KaplanFit = "chinchilla") -> Point:
    """Return the point of least loss for a compute: N_opt to the nearest whole number, and D = C // (6N)."""
    parameters, _ = loss_law(by).optimum(compute)
    return point(compute, parameters, by=by)


def isoflop_slice(
    compute: int, *, by: str | Fit | KaplanFit = "chinchilla", points: int = 21, span: float = 10.0
) -> tuple[Point, ...]:
    """Points of equal compute at sizes evenly spaced in log N, from the optimum / span to the optimum * span."""
    middle, number = best(compute, by=by).parameters, positive("points", points)
    width = log(above_zero("span", span))
    steps = [width * (2 * step / (number - 1) - 1) if number > 1 else 0.0 for step in range(number)]
    return tuple(point(compute, max(1, round(middle * exp(step))), by=by) for step in steps)


def frontier(computes: Iterable[int], *, by: str | Fit | KaplanFit = "chinchilla") -> tuple[Point, ...]:
    """Return the point of least loss for each compute: N_opt ~ C^a, D_opt ~ C^b."""
    return tuple(best(compute, by=by) for compute in computes)
