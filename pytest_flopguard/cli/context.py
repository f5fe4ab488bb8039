"""``flopguard context``: what attention costs as the context grows."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pytest_flopguard.cli.mistakes import Mistakes, amount
from pytest_flopguard.cli.model_argument import HELP, subject
from pytest_flopguard.cli.picture_file import PLOT_HELP, write
from pytest_flopguard.core.errors import SizeError, message
from pytest_flopguard.formulas.architectures.pairs import CONVENTIONS, convention
from pytest_flopguard.formulas.estimates.context import ContextCost, context_cost
from pytest_flopguard.reporters import context_chart
from pytest_flopguard.reporters.picture import check_suffix

if TYPE_CHECKING:
    from argparse import _SubParsersAction


def add_to(commands: _SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "context",
        help="tell what attention costs as the context grows",
        description="Tell attention's share of a model's FLOPs over the length of the context.",
    )
    parser.add_argument("model", metavar="MODEL", help=HELP)
    parser.add_argument(
        "--seq",
        required=True,
        metavar="S",
        help="lengths in tokens: 4096, a list 4096,128000, or a range 2048:131072 that doubles",
    )
    parser.add_argument("--attention", help=f"{' or '.join(CONVENTIONS)}; both by default")
    parser.add_argument("--plot", metavar="FILE", help=PLOT_HELP)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print a row for each length and convention."""
    mistakes = Mistakes()
    model = mistakes.read(lambda: subject(options.model))
    lengths = mistakes.read(lambda: sorted(set(_lengths(options.seq))))
    kinds = mistakes.read(lambda: CONVENTIONS if options.attention is None else (convention(options.attention),))
    if options.plot:
        mistakes.read(lambda: check_suffix(options.plot))
    mistakes.check()
    # check() has raised where one of them could not be read.
    costs = [context_cost(model, seq, kind) for seq in lengths or () for kind in kinds or () if model]
    if options.plot:
        write(context_chart.chart(options.model, costs), options.plot)
    if options.json:
        print(json.dumps({"format_version": 1, "model": options.model, "points": _points(costs)}, indent=2))
    else:
        print(context_chart.render(options.model, costs))
    return 0


def _points(costs: list[ContextCost]) -> list[dict[str, object]]:
    return [
        {
            "seq": each.seq,
            "attention": each.attention,
            "flops": {"attention": each.core, "layers": each.layers, "edges": each.edges, "total": each.total},
            "overhead": float(each.overhead),
            "share": float(each.share),
            "per_token": float(each.per_token),
        }
        for each in costs
    ]


def _lengths(text: str) -> Iterator[int]:
    """Yield the lengths of ``A``, ``A,B`` and ``A:B``: A, 2A, 4A, ... and B itself."""
    for part in text.split(","):
        start, colon, end = part.partition(":")
        length = amount("--seq", start)
        last = amount("--seq", end) if colon else length
        if last < length:
            raise SizeError(message("bad-size", name="--seq", value=part, rule="a range that begins with its least"))
        while length < last:
            yield length
            length *= 2
        yield last
