"""What the tests of budgets share: a pyproject.toml that is read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest

from pytest_flopguard.budgets.settings import Settings, load_settings
from pytest_flopguard.core.errors import UsageError


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., Settings]:
    """Give a function that reads a pyproject.toml with this text, and command line values by option name."""

    def read(text: str = "", **command_line: object) -> Settings:
        (tmp_path / "pyproject.toml").write_bytes(dedent(text).encode("utf-8"))
        return load_settings(tmp_path, {name.replace("_", "-"): value for name, value in command_line.items()})

    return read


@pytest.fixture
def refused(load: Callable[..., Settings]) -> Callable[..., list[str]]:
    """Give a function that reads the same and returns the lines of the UsageError that it must raise."""

    def read(text: str = "", **command_line: object) -> list[str]:
        with pytest.raises(UsageError) as caught:
            load(text, **command_line)
        return str(caught.value).splitlines()

    return read
