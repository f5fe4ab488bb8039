"""From closed forms to expectations: what a region's count must be, once it is known what ran in it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pytest_flopguard.core.errors import ConfigError, message
from pytest_flopguard.core.expectation import Expectation, Origin, Part, Quantity
from pytest_flopguard.core.measurement import FlopTally
from pytest_flopguard.core.model_call import ModelCall
from pytest_flopguard.formulas.architectures.called import check_gradients, closed_form_of, written_at
from pytest_flopguard.formulas.breakdown import Breakdown, Term

_PACKAGE = Path(__file__).parent.parent
_PHASES: tuple[Quantity, ...] = ("forward_flops", "backward_flops", "recompute_flops")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stated:
    """A closed form that a test states: the region that it was stated in must cost exactly this.

    A breakdown counts its backward, too, where backward ran.
    """

    form: Breakdown
    quantity: Quantity = "flops"
    origin: Origin


def stated(statement: Stated, tally: FlopTally) -> tuple[Expectation, ...]:
    """Return what a stated closed form expects of a region's tally."""
    wanted = Expectation(quantity=statement.quantity, origin=statement.origin, source="formula")
    return tuple(_of(wanted, [(statement.form, _ran_backward(tally, ""))], tally))


def derived(
    wanted: Expectation, calls: Sequence[ModelCall], tally: FlopTally, attention: str
) -> tuple[Expectation, ...]:
    """Return what ``formula = "auto"`` expects: the sum of the closed forms of all models that ran.

    ArchitectureError, ConfigError or SizeError where one of them has none.
    """
    if not calls:
        raise ConfigError(message("no-model"))
    forms: list[tuple[Breakdown, bool]] = []
    for call in calls:
        backward = call.grad and _ran_backward(tally, call.path)
        if backward:
            check_gradients(call)
        forms.append((closed_form_of(call, attention), backward))
    path, line = written_at(calls[0])
    origin = Origin(
        path=f"{_PACKAGE.name}/{Path(path).relative_to(_PACKAGE).as_posix()}",
        line=line,
        text=f"{wanted.origin.text or 'formula = auto'} at {wanted.origin}",
    )
    return tuple(_of(replace(wanted, origin=origin, derive=""), forms, tally))


def _of(wanted: Expectation, forms: Sequence[tuple[Breakdown, bool]], tally: FlopTally) -> Iterator[Expectation]:
    # An optimizer that multiplies matrices is no part of the model: then each phase is held by itself.
    quantities = _PHASES if tally.optimizer and wanted.quantity == "flops" else (wanted.quantity,)
    for quantity in quantities:
        parts = tuple(_summed(_parts(quantity, forms)))
        conventions = {form.attention for form, _ in forms}
        attention = conventions.pop() if len(conventions) == 1 else ""
        total = sum(each.flops for each in parts)
        yield replace(wanted, quantity=quantity, low=total, high=total, parts=parts, attention=attention)


def _parts(quantity: Quantity, forms: Iterable[tuple[Breakdown, bool]]) -> Iterator[Part]:
    for form, backward in forms:
        for term in form:
            flops = _flops(term, quantity, backward)
            yield Part(name=term.name, equation=term.equation, flops=flops, modules=term.modules)


def _flops(term: Term, quantity: Quantity, backward: bool) -> int:
    amounts = {
        "forward_flops": term.forward,
        "backward_flops": term.backward if backward else 0,
        "recompute_flops": term.recompute if backward else 0,
    }
    return amounts.get(quantity, sum(amounts.values()))


def _summed(parts: Iterable[Part]) -> Iterator[Part]:
    """Add up parts of one name and place, as several calls of one model have."""
    found: dict[tuple[str, str], Part] = {}
    for each in parts:
        key = each.name, each.modules
        before = found.get(key)
        found[key] = each if before is None else replace(before, flops=before.flops + each.flops)
    yield from found.values()


def _ran_backward(tally: FlopTally, path: str) -> bool:
    """Whether backward ran through a model; work whose module is not known may be any model's."""
    modules = {each.module for each in tally.counts if each.phase in ("backward", "recompute") and each.flops}
    return any(not each or not path or each == path or each.startswith(f"{path}.") for each in modules)
