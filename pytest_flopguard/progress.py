"""One line on a terminal that tells that a long measurement is alive, and how far it is."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Generator, Mapping
from time import monotonic
from typing import Any

import pytest

from pytest_flopguard import pytest_api
from pytest_flopguard.reporters.one_line import one_line

Write = Callable[[str], object]
# Seconds before the first word, and between two.
_PATIENCE, _PAUSE = 1.0, 0.25
# Characters in which something can be said.
_LEAST_ROOM = 12
# Save the cursor, write to the end of the line, and go back: what pytest prints next is written over it.
_SAVE, _CLEAR, _BACK = "\x1b7", "\x1b[K", "\x1b8"


class Progress:
    """A plugin that shows the op calls of the test that runs; driven by them, so that no thread watches.

    ``room`` tells how many characters the line still has.
    """

    def __init__(self, write: Write, room: Callable[[], int], clock: Callable[[], float] = monotonic) -> None:
        self._write = write
        self._room = room
        self._clock = clock
        self._name = ""
        self._calls = 0
        self._begun = self._shown = 0.0
        self._visible = False

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, object, object]:
        """Begin with the test, and leave the line as it was at its end."""
        self.begin(item.name)
        try:
            return (yield)
        finally:
            self.end()

    def begin(self, name: str) -> None:
        """Count from here on."""
        self._name, self._calls = one_line(name), 0
        self._begun = self._shown = self._clock()

    def tick(self) -> None:
        """Count an op call, and tell of them now and then."""
        self._calls += 1
        now = self._clock()
        if now - self._begun < _PATIENCE or now - self._shown < _PAUSE:
            return
        self._shown = now
        plural = "s" if self._calls > 1 else ""
        text = f" {now - self._begun:.0f} s, {self._calls:,} op call{plural} of {self._name}"
        room = self._room()
        if room >= _LEAST_ROOM:
            self._write(f"{_SAVE}{text if len(text) <= room else text[: room - 1] + '…'}{_CLEAR}{_BACK}")
            self._visible = True

    def end(self) -> None:
        """Take the line away."""
        if self._visible:
            self._write(_CLEAR)
            self._visible = False


def progress_of(config: pytest.Config, environ: Mapping[str, str]) -> Progress | None:
    """Return the progress of a run, registered as a plugin; None where nobody looks, or where it would be in the way.

    That is: no terminal, a quiet run, CI, an xdist worker or its controller, tests that print by themselves (``-s``).
    """
    reporter: Any = config.pluginmanager.getplugin("terminalreporter")
    if (
        reporter is None
        or not reporter.isatty
        or config.get_verbosity() < 0
        or config.getoption("capture") == "no"
        or pytest_api.is_worker(config)
        or pytest_api.workers(config)
        or environ.get("CI")
        or environ.get("TERM", "dumb") == "dumb"
    ):
        return None
    try:
        # While a test runs, pytest points standard output elsewhere: this is where it points now.
        terminal = os.dup(sys.stdout.fileno())
    except (OSError, ValueError):
        return None
    progress = Progress(
        lambda text: os.write(terminal, text.encode("utf-8", "replace")),
        lambda: pytest_api.columns_left(reporter),
    )
    config.pluginmanager.register(progress, "flopguard-progress")
    config.add_cleanup(lambda: os.close(terminal))
    return progress
