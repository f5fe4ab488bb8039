"""An estimate as JSON: numbers nested by their dotted names, null where there is none, and the reasons beside them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pytest_flopguard.core.figure import Figure
from pytest_flopguard.reporters.breakdown_table import BreakdownLike

FORMAT_VERSION = 1


def document(
    figures: Mapping[str, Figure], form: BreakdownLike | None, parameter_terms: Mapping[str, int]
) -> dict[str, Any]:
    """Return the document: ``figures`` nested, ``flops.terms``, ``how`` and ``reasons`` by dotted name."""
    found: dict[str, Any] = {"format_version": FORMAT_VERSION}
    for name, figure in figures.items():
        *outer, last = name.split(".")
        place = found
        for each in outer:
            place = place.setdefault(each, {})
        place[last] = figure.value
    found["flops"]["terms"] = None if form is None else list(_terms(form))
    found["parameter_terms"] = dict(parameter_terms) or None
    found["symbols"] = {} if form is None else dict(form.symbols)
    found["source"] = None if form is None else form.source
    found["units"] = {name: each.unit for name, each in figures.items() if each.unit and each.value is not None}
    found["how"] = {name: each.how for name, each in figures.items() if each.value is not None}
    found["reasons"] = {name: each.how for name, each in figures.items() if each.value is None}
    if form is None:
        found["reasons"] |= dict.fromkeys(("flops.terms", "parameter_terms", "source"), "no sizes are known")
    return found


def _terms(form: BreakdownLike) -> Iterable[dict[str, Any]]:
    for each in form.terms:
        yield {
            "name": each.name,
            "equation": each.equation,
            "each": each.each,
            "times": each.times,
            "forward": each.forward,
            "backward": each.backward,
            "recompute": each.recompute,
        }
