"""The ``flopguard`` command: reports, formulas and explanations outside a pytest run, without pytest and torch."""

from __future__ import annotations

from pytest_flopguard.cli.command_line import main

__all__ = ["main"]
