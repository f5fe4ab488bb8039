"""Every message a user can meet, by its stable code; ``docs/reference/messages.md`` has a section for each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from types import MappingProxyType

MESSAGES: Mapping[str, str] = MappingProxyType(
    {
        # Verdicts on a measurement.
        "over-budget": "{quantity}: {observed}, over the limit of {limit} by {excess}",
        "under-budget": "{quantity}: {observed}, under the least expected {limit} by {excess}",
        "within-budget": "{quantity}: {observed}, within {limit}",
        "unknown-op": "{quantity}: at least {at_least}, not exactly known; {count} without a FLOP formula ran",
        "upper-bound": "{quantity}: at most {observed}, and the limit is {limit}; not exactly known: {reason}",
        "not-measured": "{quantity}: not measured, {reason}",
        "memory-unknown": "{quantity}: at least {observed}, and not decided against the limit of {limit}: not known is "
        "{reason}",
        "device-absent": "{quantity}: the limit is for {keys} only, and this run measured {devices}{reason}",
        "formula-differs": "{quantity}: {observed} counted, and the closed form says {expected}, {excess} "
        "{direction}{note}",
        "ran-as-written": "{calls} of compiled functions ran uncompiled, so that their op calls could be counted. "
        'A test about compiling is left alone by @pytest.mark.flop_budget(measure="off"), or in pyproject.toml by '
        '[tool.flopguard.budgets."{nodeid}"] and below it measure = "off"',
        "no-model": "no model with a config ran, so there is no closed form to hold the count to",
        "cross-check": "{quantity}: {engine} counts {observed}, {other} counts {expected}",
        "over-baseline": "{quantity}: {observed}, over the baseline of {limit} by {excess}{note}",
        "under-baseline": "{quantity}: {observed}, under the baseline of {limit} by {excess}{note}",
        "workload-changed": "the workload changed: {reason}",
        "no-baseline": "no baseline yet",
        "region-gone": "the region that has a baseline was not measured: {reason}",
        "varying-calls": "the baseline cannot be checked: {reason}",
        "baseline-environment": "{quantity}: not held against the baseline: {reason}",
        # Settings, budgets and marker arguments.
        "bad-toml": "not valid TOML: {reason}",
        "unknown-setting": "unknown setting {name!r}{hint}",
        "unknown-quantity": "unknown budget quantity {name!r}{hint}",
        "unknown-budget-key": "unknown key {name!r} in the limit of {quantity}{hint}",
        "unknown-device": "unknown device key {name!r}{hint}",
        "bad-value": "{name} = {value!r}: expected {expected}{hint}",
        "bad-amount": "{name} = {value!r}: {reason}",
        "bad-marker": "flop_budget takes keyword arguments only, got {value!r}",
        "run-wide-setting": "{name} = {value!r}: one run has one {name}, and this one has {other!r} ({from_}); {ways}",
        "bad-options": "{option}: {reason}",
        "baselines-not-written": "the baselines were not written: {reason}",
        "unmatched-budget": "the budget {name!r} matches no test{hint}",
        "stale-baseline": "the baseline of {name!r} is for no test{hint}",
        "bad-update": "{option}: {reason}",
        # Formulas and backends that come in through hooks.
        "duplicate-formula": "{op} has two formulas: {first} and {second}",
        "op-name": "registry.{way} was given {value}: expected an op as namespace.name, such as {example!r}",
        "formula-signature": "the formula {formula}{signature} does not accept the call {op}({call})",
        "formula-result": "the formula {formula} for {op} returned {value!r}: expected a non-negative int",
        "formula-raised": "the formula {formula} for {op} raised {error}",
        "backend-unavailable": "backend {name!r} cannot be used: {reason}",
        "bad-size": "{name} = {value!r}: expected {rule}",
        "unknown-name": "unknown {kind} {name!r}; known are {known}{hint}",
        "program-raised": "the program {program} raised {error}",
        "bad-config": "the config of {model_type!r}: {problem}",
        "unknown-architecture": "no closed form for the architecture {name!r}{hint}; known are {known}",
        "bad-baseline": "not a baseline file that can be used: {reason}",
        "bad-comparison": "{side!r} cannot be compared: {reason}",
        "bad-report": "not a flopguard report: {reason}",
        "report-not-written": "the report was not written: {reason}",
        "missing-extra": "{what} needs {package}, which is not installed: {install}",
        "unknown-format": "no reporter writes {suffix!r} files ({path}){hint}",
        # On a simulated GPU.
        "value-read": "{where}: the test asks for {what} of a simulated tensor, which has a shape and no values; leave "
        "it out with `if not flopguard.simulated:`, or run this test without --flop-device=sim",
        "not-simulated": "this test cannot run on a simulated GPU: {reason}",
        "answered-early": "this test runs on {device}, but before it ran, {asked}; ask inside the test, in a fixture "
        "of function scope or in the function that uses the answer, or run all tests on one device with "
        "--flop-device={device}",
        # In a job of GitHub Actions.
        "no-comment": "no comment was written: {reason}",
        "no-base": "nothing to compare with: {reason}",
        "no-report": "pytest ended with {status} and left no report: {reason}",
    }
)


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the closest known name, or an empty string."""
    close = get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""


def message(code: str, **values: object) -> str:
    """Render the message of a code and append the code itself: ``text [code]``."""
    return f"{MESSAGES[code].format(**values)} [{code}]"


def code_of(error: Exception) -> tuple[str, str]:
    """Return the code of an error that ``message`` wrote, and its text without it."""
    text, _, code = str(error).rpartition(" [")
    return code.removesuffix("]"), text


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One mistake in what the user wrote: a code, its rendered text, and ``file:line`` where it stands."""

    code: str
    text: str
    where: str

    def __str__(self) -> str:
        return f"{self.where}: {self.text}"


def problem(code: str, where: object, **values: object) -> Problem:
    """Build the Problem of a code at a place (anything whose ``str`` is ``file:line``)."""
    return Problem(code=code, text=message(code, **values), where=str(where))


class FlopguardError(Exception):
    """Base of every error that this package raises on purpose."""


class UsageError(FlopguardError):
    """All the mistakes found in settings, markers and hooks, told at once."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(each) for each in self.problems))


class FormulaError(FlopguardError):
    """A formula from a hook is wrong: the text names the formula and the op."""


class ArchitectureError(FlopguardError, LookupError):
    """There is no closed form for an architecture: the text names the nearest."""


class ConfigError(FlopguardError, ValueError):
    """A model's config cannot be read as sizes: the text names the model type, the field and the rule."""


class SizeError(FlopguardError, ValueError):
    """A closed form was given a size that cannot be: the text names the value and the rule."""


class UnknownNameError(FlopguardError, LookupError):
    """A table of ours has no such row: the text names the nearest and lists them all."""


def unknown_name(kind: str, name: object, known: Iterable[str]) -> UnknownNameError:
    """Build the error of a name that a table does not have: all that it has, and the nearest of them."""
    names = sorted(known)
    hint = nearest(str(name), names)
    return UnknownNameError(message("unknown-name", kind=kind, name=name, known=", ".join(names) or "none", hint=hint))
