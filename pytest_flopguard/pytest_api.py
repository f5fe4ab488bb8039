"""What is read of pytest and xdist that their documented interfaces do not have.

``tests/plugin/test_pytest_api.py`` checks each name against the installed releases.
"""

from __future__ import annotations

import argparse
from typing import Any

import pytest


def terminal_width(reporter: Any) -> int:
    """Return the columns of the terminal that pytest writes to."""
    return int(reporter._tw.fullwidth)


def columns_left(reporter: Any) -> int:
    """Return the columns that are free on the line that pytest is writing."""
    return int(reporter._tw.fullwidth - reporter._tw.width_of_current_line - 1)


def painted(reporter: Any, text: str, colour: str) -> str:
    """Return a text in bold and a colour, if ``--color``, NO_COLOR and the terminal allow it."""
    return str(reporter._tw.markup(text, **{colour: True}))


def is_worker(config: pytest.Config) -> bool:
    """Whether this process is one of xdist's workers."""
    return hasattr(config, "workerinput")


def worker_output(config: pytest.Config) -> dict[str, Any] | None:
    """Return what a worker sends to the controller at its end, None outside of a worker."""
    found: dict[str, Any] | None = getattr(config, "workeroutput", None)
    return found


def output_of_worker(node: Any) -> dict[str, Any]:
    """Return what a worker has sent to the controller; a worker that crashed has sent nothing."""
    found: dict[str, Any] = getattr(node, "workeroutput", {})
    return found


def workers(config: pytest.Config) -> Any:
    """Return the value of ``-n``, 0 without xdist or without the option."""
    return config.getoption("numprocesses", None) or 0


def run_in_one_process(config: pytest.Config) -> None:
    """Switch xdist off, whatever the command line says."""
    if hasattr(config.option, "dist"):
        config.option.dist = "no"


def item_of(request: Any) -> pytest.Item:
    """Return the test for which a fixture is set up, whatever the fixture's scope."""
    found: pytest.Item = request._pyfuncitem
    return found


def options_so_far(config: pytest.Config) -> argparse.Namespace:
    """Return the options that pytest has parsed before it loads the first conftest.py."""
    return config.known_args_namespace


def function_name(item: pytest.Item) -> str:
    """Return the name of a test's function, without its parameters."""
    return str(getattr(item, "originalname", item.name))


def repeats_by_the_clock(item: pytest.Item) -> bool:
    """Whether a test uses the ``benchmark`` fixture of pytest-benchmark or pytest-codspeed, and not one of its own."""
    definitions = getattr(getattr(item, "_fixtureinfo", None), "name2fixturedefs", {})
    return any(
        fixture.func.__module__.partition(".")[0] in ("pytest_benchmark", "pytest_codspeed")
        for name in ("benchmark", "benchmark_weave")
        for fixture in definitions.get(name, ())[-1:]
    )


def draws_examples(item: pytest.Item) -> bool:
    """Whether Hypothesis calls the test's function, with inputs that it chooses."""
    return bool(getattr(getattr(item, "obj", None), "is_hypothesis_test", False))


def expected_to_fail(report: pytest.TestReport) -> bool:
    """Whether a report is of a test that was marked xfail, and the mark held for this run."""
    return hasattr(report, "wasxfail")
