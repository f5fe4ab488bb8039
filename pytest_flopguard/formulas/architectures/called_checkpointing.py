"""What checkpointing does again: every block, up to the last product that backward needs or beyond it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from pytest_flopguard.core.errors import ConfigError, message
from pytest_flopguard.core.model_call import ModelCall
from pytest_flopguard.formulas.architectures.families import Family
from pytest_flopguard.formulas.breakdown import Breakdown, Term

# Work that stands outside the blocks is never checkpointed.
_OUTSIDE = frozenset({"lm_head", "classifier", "pooler", "transform", "patch", "conv1", "conv2"})
_DROPOUT = ("resid_pdrop", "hidden_dropout", "residual_dropout", "hidden_dropout_prob", "dropout_rate", "dropout")


def recomputed(form: Breakdown, call: ModelCall, family: Family) -> Breakdown:
    """Return the form with what ``call.checkpointing`` does again.

    ``"whole"``: all of every block. ``"needed"``: torch stops once it has the last tensor that backward needs. The last
    product of a block, back to the model's width, makes a tensor that nobody needs, unless dropout, a norm or a weight
    per expert comes after it.
    """
    if call.checkpointing == "none":
        return form
    layers, again = len(call.checkpointed), sum(call.checkpointed)
    skips = family.last_product if call.checkpointing == "needed" and not _drops_out(call) else ()
    if again == layers:
        return replace(form, terms=tuple(_again(each, skips) for each in form))
    return replace(form, terms=tuple(part for each in form for part in _some(each, skips, again, layers, call)))


def _some(term: Term, skips: tuple[str, ...], again: int, layers: int, call: ModelCall) -> Iterator[Term]:
    """Split a term in the layers that are checkpointed and the others, where all layers are alike."""
    if term.name in _OUTSIDE:
        yield term
    elif term.times == layers:
        yield replace(_again(term, skips), times=again)
        yield replace(term, times=layers - again)
    else:
        problem = f"{again} of {layers} layers are checkpointed, and not all are alike: no closed form tells which"
        raise ConfigError(message("bad-config", model_type=call.config.get("model_type"), problem=problem))


def _again(term: Term, skips: tuple[str, ...]) -> Term:
    if term.name in _OUTSIDE:
        return term
    if term.name not in skips:
        return replace(term, recompute_each=term.each)
    matrices = 3 if "3*h" in term.equation else 2
    return replace(term, recompute_each=term.each // matrices * (matrices - 1))


def _drops_out(call: ModelCall) -> bool:
    # As far as configs say it, what is dropped after the last product is dropped under one of these names.
    return any(call.config.get(name) for name in _DROPOUT)
