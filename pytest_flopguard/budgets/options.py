"""The one table of options: what ``[tool.flopguard]`` and the command line may set, to what, and what it does."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from pytest_flopguard.budgets.run_device import WANTED, is_device
from pytest_flopguard.core.errors import nearest


class BadValueError(ValueError):
    """An option does not take a value; the message is a hint, often empty."""


class Option(NamedTuple):
    """One setting: ``values`` says what it takes, ``default`` is as it would be written in TOML.

    ``parse`` turns a written value into ours; None where a table is read that budgets know more of. ``choices`` are
    the texts that the option takes. ``typed`` options are for the command line only, ``bare`` is what their flag means
    without a value, and a switch that is not ``off`` cannot be turned off there.
    """

    name: str
    values: str
    default: object
    help: str
    parse: Callable[[Option, object], object] | None = None
    choices: tuple[str, ...] = ()
    flag: str = ""
    typed: bool = False
    bare: str | None = None
    off: bool = True

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
    if not isinstance(value, (list, tuple)):
        raise BadValueError
    # As people type it: --flop-update=new,trim.
    parts = [part for each in value for part in (each.split(",") if isinstance(each, str) else [each])]
    return tuple(dict.fromkeys(_choice(option, each) for each in parts))


def _device(option: Option, value: object) -> str:
    if is_device(value):
        return str(value)
    raise BadValueError


def _paths(option: Option, value: object) -> tuple[str, ...]:
    if isinstance(value, (list, tuple)) and all(isinstance(each, str) and each for each in value):
        return tuple(value)
    raise BadValueError


def _text(option: Option, value: object) -> str:
    if isinstance(value, str):
        return value.strip()
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
        name="device",
        values=WANTED,
        default="auto",
        flag="--flop-device",
        parse=_device,
        help="Where tests run: on what there is, or on a simulated GPU, to predict the peak of its memory without one.",
    ),
    Option(
        name="warm-up",
        values="true or false",
        default=False,
        parse=_switch,
        help="On a GPU, let cuBLAS, cuDNN and attention kernels take what they keep for ever before the first test is "
        "measured, so that no peak depends on which test ran first.",
    ),
    Option(
        name="unknown-ops",
        values='"error" or "warn"',
        default="error",
        parse=_choice,
        choices=("error", "warn"),
        help="Whether a guarded test (with a budget of its own, a flop_budget marker or the flopguard fixture) fails "
        "when it runs an op that has no FLOP formula; of other tests the op is only named. A FLOP limit that such an "
        "op leaves undecided fails either way, unless its own severity is warn.",
    ),
    Option(
        name="unknown-memory",
        values='"error" or "warn"',
        default="error",
        parse=_choice,
        choices=("error", "warn"),
        help="Whether a limit on predicted memory fails when the known part meets it and memory that is not known may "
        "exceed the rest. A limit that the known part breaks fails either way.",
    ),
    Option(
        name="gpus",
        values="a table for each GPU with capability, multiprocessors, memory and l2-cache",
        default={},
        help="GPUs of your own that tests can be simulated on, as `sim:NAME`.",
    ),
    Option(
        name="tolerance",
        values='a percentage such as "2%", a number, or a table with one for each quantity',
        default=0,
        help="How far a value may pass its limit, where the budget does not say so itself.",
    ),
    Option(
        name="improvement",
        values='"ignore", "warn" or "error"',
        default="warn",
        parse=_choice,
        choices=("ignore", "warn", "error"),
        help="What a number under its baseline does: nothing, warn, or fail its test until --flop-update=trim.",
    ),
    Option(
        name="strict",
        values="true or false",
        default=False,
        flag="--flop-strict",
        parse=_switch,
        off=False,
        help="Also fail tests that have no baseline, and those whose memory baseline is for another environment.",
    ),
    Option(
        name="update",
        values='a list of "new", "changed" and "trim"',
        default=[],
        flag="--flop-update",
        parse=_choices,
        choices=("new", "changed", "trim"),
        typed=True,
        help="Write baselines of the tests that ran: those that have none, those that broke or changed, or wins.",
    ),
    Option(
        name="reason",
        values="a text",
        default="",
        flag="--flop-reason",
        parse=_text,
        typed=True,
        help="Why baselines change; --flop-update=changed writes it beside the new numbers, and asks for it.",
    ),
    Option(
        name="update-in-ci",
        values="true or false",
        default=False,
        flag="--flop-update-in-ci",
        parse=_switch,
        typed=True,
        off=False,
        help="Let --flop-update write where CI is set.",
    ),
    Option(
        name="why",
        values="a node id, or nothing for all tests",
        default="",
        flag="--flop-why",
        parse=_text,
        typed=True,
        bare="*",
        help="Tell for each module and op what differs from the baseline, also where nothing broke.",
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
