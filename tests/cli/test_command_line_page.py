"""docs/reference/command-line.md names every flag, command and verdict."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pytest_flopguard.budgets.options import OPTIONS
from pytest_flopguard.cli import main

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "command-line.md"


def test_every_pytest_flag_is_listed() -> None:
    listed = re.findall(r"^\| `(--flop-[a-z-]+)` \|", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert listed == [*(each.flag for each in OPTIONS if each.flag), "--flop-explain"]


def test_every_command_has_a_section(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    commands = re.findall(r"^    ([a-z]+) ", capsys.readouterr().out, flags=re.MULTILINE)
    sections = re.findall(r"^### flopguard ([a-z]+)$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    known = ["init", "report", "compare", "formulas", "estimate", "memory", "context", "frontier", "explain", "github"]
    assert commands == sections == known
