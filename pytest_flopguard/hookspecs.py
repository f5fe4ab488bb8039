"""The moments at which other plugins and a project's conftest.py can extend the guard.

The built-in formulas, backends and reporters come in through the same hooks (``builtin.py``).
"""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_flopguard.backends.select import Backends
    from pytest_flopguard.core.expectation import Expectation
    from pytest_flopguard.core.record import Record
    from pytest_flopguard.formulas.registry import Registry
    from pytest_flopguard.reporters.formats import Reporter


@pytest.hookspec()
def pytest_flopguard_formulas(registry: Registry) -> None:
    """Register op formulas (``@registry.op(...)``) and free or uncounted ops."""


@pytest.hookspec()
def pytest_flopguard_backends(backends: Backends) -> None:
    """Register FLOP engines and memory backends by name."""


@pytest.hookspec()
def pytest_flopguard_reporters(formats: MutableMapping[str, Reporter]) -> None:
    """Register reporters by file suffix: ``formats[".csv"] = CsvReporter()``."""


@pytest.hookspec()
def pytest_flopguard_expectations(item: pytest.Item) -> Sequence[Expectation]:  # type: ignore[empty-body]
    """Return further expectations for a test, beside its budgets."""


@pytest.hookspec()
def pytest_flopguard_measured(item: pytest.Item, record: Record) -> None:
    """Look at a record that was just judged, in the process that ran the test."""
