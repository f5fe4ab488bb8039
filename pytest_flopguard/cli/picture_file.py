"""Where a command's chart goes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytest_flopguard.core.errors import UsageError, problem
from pytest_flopguard.reporters.picture import SUFFIXES, draw

PLOT_HELP = f"a file to draw the chart into; its end says how: {', '.join(SUFFIXES)}"


def write(chart: Mapping[str, Any], path: str) -> None:
    """Draw a chart into a file; UsageError where it cannot be drawn or written."""
    content = draw(chart, path)
    try:
        Path(path).write_bytes(content)
    except OSError as error:
        expected = f"a file that can be written ({error.strerror})"
        wrong = problem("bad-value", "command line", name="--plot", value=path, expected=expected, hint="")
        raise UsageError([wrong]) from error
