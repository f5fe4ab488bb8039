"""What the command line asks of the guard: it happens, or is an error."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence

import pytest

from pytest_flopguard.budgets.options import OPTIONS
from pytest_flopguard.budgets.projects import enabled_elsewhere
from pytest_flopguard.budgets.settings import Settings
from pytest_flopguard.core.errors import Problem, UsageError, problem

_COMMAND_LINE = "command line"
EXPLAIN = "--flop-explain"
_OFF = "--no-flop-budget"
# What only a run of tests can do.
_OF_A_RUN = ("--flop-update", "--flop-reason", "--flop-why", "--flop-report")


def read_command_line(config: pytest.Config, options: Namespace | None = None) -> dict[str, object]:
    """Return the options that were given, by name; each that asks for something turns the guard on.

    ``options`` are those that pytest has parsed so far, None once it has parsed them all.

    UsageError for options that were typed together and exclude each other. Those of ``addopts`` and ``PYTEST_ADDOPTS``
    give way to ``--no-flop-budget`` and ``--flop-explain``.
    """
    parsed = config.option if options is None else options
    given: dict[str, object] = {
        each.name: getattr(parsed, each.flag[2:].replace("-", "_")) for each in OPTIONS if each.flag
    }
    explains = parsed.flop_explain is not None
    typed = [each for each in _typed(config.invocation_params.args) if each not in ("--flop-budget", _OFF)]
    problems: list[Problem] = []
    if given["enabled"] is False:
        problems += [_excluded(each, _OFF, "leave one of them out") for each in typed]
    elif explains:
        problems += [_excluded(each, EXPLAIN, "it runs no test") for each in typed if each in _OF_A_RUN]
    if given["update-in-ci"] and not given["update"]:
        problems.append(_excluded("--flop-update-in-ci", "--flop-update", "there is nothing to write", joint="without"))
    if problems:
        raise UsageError(problems)
    if explains:
        given |= dict.fromkeys(("update", "reason", "why", "report"))
    if given["enabled"] is None and (explains or any(value not in (None, False) for value in given.values())):
        given["enabled"] = True
    elif given["enabled"] is False:
        given |= dict.fromkeys(name for name in given if name != "enabled")
    return given


def check_off(settings: Settings, items: Sequence[pytest.Item]) -> None:
    """Check that settings of no project of these tests turn the guard on, where this run has it off; UsageError."""
    if str(settings.origin("enabled")) == _COMMAND_LINE:
        return
    folders = {folder for item in items for folder in item.path.parents}
    problems = list(enabled_elsewhere(settings, folders - set(settings.rootdir.parents)))
    if problems:
        raise UsageError(problems)


def enabled_around(settings: Settings) -> str:
    """Name the settings file around the root directory that turns the guard on, where this run has it off."""
    if str(settings.origin("enabled")) == _COMMAND_LINE:
        return ""
    return next((each.where for each in enabled_elsewhere(settings, settings.rootdir.parents)), "")


def _typed(arguments: Sequence[object]) -> Iterator[str]:
    """Yield the flags of the guard that a person typed."""
    flags: Mapping[str, str] = {each.flag: each.flag for each in OPTIONS if each.flag} | {EXPLAIN: EXPLAIN, _OFF: _OFF}
    for each in arguments:
        flag = str(each).partition("=")[0]
        if flag in flags:
            yield flag


def _excluded(option: str, other: str, reason: str, joint: str = "with") -> Problem:
    return problem("bad-options", _COMMAND_LINE, option=f"{option} {joint} {other}", reason=reason)
