"""Runs as the summary of a job."""

from __future__ import annotations

from collections.abc import Sequence

from pytest_flopguard.reporters.github_body import body, headline
from pytest_flopguard.reporters.github_entries import Leg

# A summary of more than 1 MiB is dropped whole.
MOST_BYTES = 1024 * 1024


def render(legs: Sequence[Leg], *, written: int = 0) -> str:
    """Render runs for a summary that holds so many bytes already; empty where there is no room for even a headline."""
    text = body(legs, most=MOST_BYTES - written - 1, title=headline(legs))
    return text if len(text.encode("utf-8")) + written < MOST_BYTES else ""
