"""``flopguard frontier``: curves of equal compute, and the models of least loss."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING

from pytest_flopguard.cli.mistakes import Mistakes, amount, number
from pytest_flopguard.cli.picture_file import PLOT_HELP, write
from pytest_flopguard.core.errors import SizeError, message
from pytest_flopguard.core.units import Unit
from pytest_flopguard.formulas.rates import above_zero
from pytest_flopguard.formulas.scaling.isoflop import Point, frontier, isoflop_slice, loss_law
from pytest_flopguard.formulas.scaling.kaplan_loss import KAPLAN_FITS, KaplanFit
from pytest_flopguard.formulas.scaling.parametric_loss import FITS, Fit
from pytest_flopguard.reporters import frontier_chart
from pytest_flopguard.reporters.picture import check_suffix

if TYPE_CHECKING:
    from argparse import _SubParsersAction

# The nine slices of Hoffmann et al. 2022 (arXiv 2203.15556), figure 3.
_COMPUTES = "6e18,1e19,3e19,6e19,1e20,3e20,6e20,1e21,3e21"


def add_to(commands: _SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "frontier",
        help="tell which model has the least loss for a training compute",
        description="Show parameters, tokens and loss of the best model for each compute, with C = 6ND, by a fit of "
        "L = E + A/N^alpha + B/D^beta, or of Kaplan's L = [(N_c/N)^(alpha_N/alpha_D) + D_c/D]^alpha_D.",
    )
    parser.add_argument(
        "--compute",
        default=_COMPUTES,
        metavar="C",
        help="training FLOPs: a list 1e20,5.76e23, or a range 1e18:1e24 in steps of ten; "
        "the nine of the Chinchilla paper by default",
    )
    parser.add_argument(
        "--fit", default="chinchilla", help=f"{', '.join((*FITS, *KAPLAN_FITS))}; chinchilla by default"
    )
    parser.add_argument(
        "--points", default="21", metavar="N", help="points of each curve of equal compute; 21 by default"
    )
    parser.add_argument("--span", default="10", metavar="X", help="each curve goes from N/X to N*X; 10 by default")
    parser.add_argument("--plot", metavar="FILE", help=PLOT_HELP)
    parser.add_argument("--json", action="store_true", help="print JSON, with the points of every curve")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the frontier; draw it with the curves of equal compute."""
    mistakes = Mistakes()
    law = mistakes.read(lambda: loss_law(options.fit))
    computes = mistakes.read(lambda: sorted(set(_computes(options.compute))))
    points = mistakes.number("--points", options.points)
    span = mistakes.read(lambda: above_zero("--span", number("--span", options.span)))
    if options.plot:
        mistakes.read(lambda: check_suffix(options.plot))
    mistakes.check()
    # check() has raised where one of them could not be read.
    assert law is not None
    best = frontier(computes or (), by=law)
    curves = [isoflop_slice(each, by=law, points=points or 1, span=span or 1) for each in computes or ()]
    if options.plot:
        write(frontier_chart.chart(f"{law.name}: {law.source}", curves, best), options.plot)
    if options.json:
        print(json.dumps({"format_version": 1, **_document(law, best, curves)}, indent=2))
    else:
        print(frontier_chart.render(f"{law.name}: {law.source}", best))
    return 0


def _document(law: Fit | KaplanFit, best: tuple[Point, ...], curves: list[tuple[Point, ...]]) -> dict[str, object]:
    return {
        "fit": asdict(law),
        "exponents": {"parameters": law.parameter_exponent, "tokens": law.data_exponent},
        "frontier": [_point(each) for each in best],
        "slices": [{"compute": curve[0].compute, "points": [_point(each) for each in curve]} for curve in curves],
    }


def _point(point: Point) -> dict[str, object]:
    return {**asdict(point), "tokens_per_parameter": point.tokens_per_parameter}


def _computes(text: str) -> Iterator[int]:
    """Yield the computes of ``A``, ``A,B`` and ``A:B``: A, 10A, 100A, ... and B itself."""
    for part in text.split(","):
        start, colon, end = part.partition(":")
        compute = amount("--compute", start, Unit.FLOP)
        last = amount("--compute", end, Unit.FLOP) if colon else compute
        if last < compute:
            rule = "a range that begins with its least"
            raise SizeError(message("bad-size", name="--compute", value=part, rule=rule))
        while compute < last:
            yield compute
            compute *= 10
        yield last
