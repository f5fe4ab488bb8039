"""What a person sees on a terminal of a given width, and what a pipe, CI and xdist see instead."""

from __future__ import annotations

import os
import re
import struct
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

if sys.platform == "win32":
    pytest.skip("there is no pseudo-terminal on Windows", allow_module_level=True)

import fcntl
import pty
import termios

# Each test runs pytest in a process of its own, which imports torch.
pytestmark = pytest.mark.slow

SLOW = """
import time
import torch


def test_slow():
    end = time.monotonic() + 1.6
    while time.monotonic() < end:
        torch.ones(2, 2) @ torch.ones(2, 2)
"""
TABLE = """
import pytest
import torch


@pytest.mark.flop_budget(flops=15)
def test_over():
    torch.ones(2, 2) @ torch.ones(2, 2)


@pytest.mark.flop_budget(flops=16)
@pytest.mark.parametrize("x", ["a_long_parameter_that_does_not_fit_into_a_narrow_terminal"])
def test_met(x):
    torch.ones(2, 2) @ torch.ones(2, 2)
"""
PROGRESS = re.compile(r"\x1b7 \d+ s, [\d,]+ op calls.*?\x1b8")
Shown = Callable[..., str]


def on_terminal(folder: Path, arguments: list[str], width: int, environment: Mapping[str, str]) -> str:
    """Run pytest on a pseudo-terminal and return all that it wrote."""
    main, side = pty.openpty()
    fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
    usual = {
        name: value for name, value in os.environ.items() if name not in ("CI", "NO_COLOR", "COLUMNS", "PY_COLORS")
    }
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--flop-budget", *arguments]
    running = subprocess.Popen(
        command, cwd=folder, stdin=side, stdout=side, stderr=side, env={**usual, "TERM": "xterm", **environment}
    )
    os.close(side)
    found = b""
    while True:
        try:
            data = os.read(main, 65536)
        except OSError:  # the other side is closed
            break
        if not data:
            break
        found += data
    running.wait()
    os.close(main)
    return found.decode()


@pytest.fixture
def shown(tmp_path: Path) -> Shown:
    """Give a function that runs tests on a terminal and returns what is written there."""

    def run(tests: str, *arguments: str, width: int = 80, **environment: str) -> str:
        (tmp_path / "test_it.py").write_text(tests)
        return on_terminal(tmp_path, list(arguments), width, environment)

    return run


def test_a_long_measurement_shows_that_it_is_alive_and_cleans_up(shown: Shown) -> None:
    text = shown(SLOW)
    found = PROGRESS.findall(text)
    assert found
    assert all("of test_slow" in each for each in found)
    # Each goes back to where it began, and what pytest writes next stands on a clean line.
    assert text.count("\x1b7") == text.count("\x1b8") == len(found)
    assert "\x1b8\x1b[K" in text


@pytest.mark.parametrize(
    ("arguments", "environment"),
    [(["-n", "1"], {}), (["-q"], {}), (["-s"], {}), ([], {"CI": "true"}), ([], {"TERM": "dumb"})],
    ids=["xdist", "quiet", "no capture", "CI", "dumb terminal"],
)
def test_nobody_else_sees_it(shown: Shown, arguments: list[str], environment: dict[str, str]) -> None:
    text = shown(SLOW, *arguments, **environment)
    assert "1 passed" in text
    assert "op calls" not in text


def test_a_pipe_sees_neither_progress_nor_colours(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(SLOW + TABLE)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--flop-budget"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "1 failed, 2 passed" in run.stdout
    assert "op calls" not in run.stdout
    assert "\x1b" not in run.stdout


@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_the_table_fits_its_terminal(shown: Shown, width: int) -> None:
    text = shown(TABLE, width=width)
    table = text.partition(" flopguard ")[2].partition("\n")[2].partition("short test summary")[0]
    lines = [re.sub(r"\x1b\[[\d;]*m", "", line).rstrip() for line in table.splitlines()]
    assert "2 measured: 1 ok, 1 failed" in lines
    # The last line is pytest's own rule.
    assert max(len(line) for line in lines[:-1]) <= width
    assert any(line.endswith("OVER") for line in lines)


def test_verdicts_have_their_colours(shown: Shown) -> None:
    text = shown(TABLE)
    assert "\x1b[31mOVER\x1b[0m" in text
    assert "\x1b[32mok\x1b[0m" in text


@pytest.mark.parametrize(("arguments", "environment"), [(["--color=no"], {}), ([], {"NO_COLOR": "1"})])
def test_colours_can_be_turned_off(shown: Shown, arguments: list[str], environment: dict[str, str]) -> None:
    text = shown(TABLE, *arguments, **environment)
    assert "OVER" in text
    assert not re.search(r"\x1b\[[\d;]*m", text)


def test_very_verbose_tells_every_digit(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text("import torch\n\ndef test_a():\n    torch.ones(99, 88) @ torch.ones(88, 77)\n")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--flop-budget"]
    usual, full = (
        subprocess.run([*command, *flags], cwd=tmp_path, capture_output=True, text=True, check=False).stdout
        for flags in ([], ["-vv"])
    )
    # 2 * 99 * 88 * 77 = 1,341,648.
    assert "1.34 MFLOP" in usual
    assert "1,341,648" not in usual
    assert "1,341,648" in full
