"""The one table of options: what ``[tool.flopguard]`` and the command line may set, to what, and what it does."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from pytest_flopguard.core.errors import nearest


class BadValueError(ValueError):
    """An option does not take a value; the message is a hint, often empty."""


class Option(NamedTuple):
    """One setting: ``values`` says what it takes, ``default`` is as it would be written in TOML.

    ``parse`` turns a written value into ours; None where a table is read that budgets know more of. ``choices`` are
    the texts that the option takes.
    """

    name: str
    values: str
    default: object
    help: str
    parse: Callable[[Option, object], object] | None = None
    choices: tuple[str, ...] = ()
    flag: str = ""

    @property
    def attribute(self) -> str:
        """The name of the field of Settings."""
        return self.name.replace("-", "_")


def _switch(option: Option, value: object) -> bool:
    if isinstance(value, bool):
        return value
    raise BadValueError


def _choice(option: Option, value: object) -> str:
    if not isinstance(value, str):
        raise BadValueError
    if value not in option.choices:
        raise BadValueError(nearest(value, option.choices))
    return value


def _choices(option: Option, value: object) -> tuple[str, ...]:
    if isinstance(value, (list, tuple)):
        return tuple(dict.fromkeys(_choice(option, each) for each in value))
    raise BadValueError


def _paths(option: Option, value: object) -> tuple[str, ...]:
    if isinstance(value, (list, tuple)) and all(isinstance(each, str) and each for each in value):
        return tuple(value)
    raise BadValueError


OPTIONS = (
    Option(
        name="enabled",
        values="true or false",
        default=False,
        flag="--flop-budget",
        parse=_switch,
        help="Measure tests and hold them to their budgets. Off, tests run plain and torch is not imported.",
    ),
    Option(
        name="measure",
        values='"all" or "guarded"',
        default="all",
        flag="--flop-measure",
        parse=_choice,
        choices=("all", "guarded"),
        help="Which tests are measured: every test that uses torch, or only those with a budget, a flop_budget marker "
        "or the flopguard fixture.",
    ),
    Option(
        name="engine",
        values='"dispatch" or "fvcore"',
        default="dispatch",
        flag="--flop-engine",
        parse=_choice,
        choices=("dispatch", "fvcore"),
        help="What counts the FLOPs: the op calls that torch dispatches, or fvcore's trace of one forward call.",
    ),
    Option(
        name="cross-check",
        values='a list of "fvcore"',
        default=[],
        flag="--flop-cross-check",
        parse=_choices,
        choices=("fvcore",),
        help="Engines that count a second time where they can; a test fails where they disagree with the first.",
    ),
    Option(
        name="attention",
        values='"dense" or "causal"',
        default="dense",
        parse=_choice,
        choices=("dense", "causal"),
        help="How attention is counted: dense is the full score matrix, masked or not; causal leaves out what a mask "
        "hides, and follows masks for that, which takes longer.",
    ),
    Option(
        name="bytes-moved",
        values="true or false",
        default=False,
        flag="--flop-bytes",
        parse=_switch,
        help="Also tell the bytes that op calls read and write, by module, for arithmetic intensity; takes longer.",
    ),
    Option(
        name="unknown-ops",
        values='"error" or "warn"',
        default="error",
        parse=_choice,
        choices=("error", "warn"),
        help="Whether a test fails when it runs an op that has no FLOP formula. A FLOP limit that such an op leaves "
        "undecided fails either way, unless its own severity is warn.",
    ),
    Option(
        name="tolerance",
        values='a percentage such as "2%", a number, or a table with one for each quantity',
        default=0,
        help="How far a value may pass its limit, where the budget does not say so itself.",
    ),
    Option(
        name="report",
        values="a list of paths",
        default=[],
        flag="--flop-report",
        parse=_paths,
        help="Files that the report is written to; the end of the name chooses the format.",
    ),
    Option(
        name="budgets",
        values="a table of budgets by test",
        default={},
        help="Limits for tests, by node id or glob.",
    ),
    Option(
        name="default-budget",
        values="a table of limits",
        default={},
        help="Limits for every test that has no closer one.",
    ),
)
