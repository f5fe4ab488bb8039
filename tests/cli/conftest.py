"""What tests of commands share: a call whose JSON is read, and one that must be refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from pytest_flopguard.cli import main

Ask = Callable[..., dict[str, Any]]
Refused = Callable[..., list[str]]


@pytest.fixture
def ask(capsys: pytest.CaptureFixture[str]) -> Ask:
    """Run a command with --json and return its document."""

    def run(*arguments: str) -> dict[str, Any]:
        assert main([*arguments, "--json"]) == 0
        document: dict[str, Any] = json.loads(capsys.readouterr().out)
        return document

    return run


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a command and return what it prints."""

    def run(*arguments: str) -> str:
        assert main([*arguments]) == 0
        return capsys.readouterr().out

    return run


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Refused:
    """Run a command that must end with 2 and print nothing, and return the lines of its error."""

    def run(*arguments: str) -> list[str]:
        assert main([*arguments]) == 2
        out, error = capsys.readouterr()
        assert out == ""
        assert error.startswith("flopguard: ")
        return error.removeprefix("flopguard: ").splitlines()

    return run
