"""Runs as the summary of a job."""

from __future__ import annotations

from collections.abc import Sequence

from pytest_flopguard.reporters.github_body import body
from pytest_flopguard.reporters.github_comment import DEFAULT_ID, title
from pytest_flopguard.reporters.github_entries import Leg

# A summary of more than 1 MiB is dropped whole.
MOST_BYTES = 1024 * 1024


def render(legs: Sequence[Leg], *, written: int = 0) -> str:
    """Render runs for a summary that holds so many bytes already; empty where there is no room for even a headline."""
    # Several are named one by one; one is told from what other steps of the job write.
    name = legs[0].name if len(legs) == 1 else DEFAULT_ID
    text = body(legs, most=MOST_BYTES - written - 1, title=title(legs, name))
    return text if len(text.encode("utf-8")) + written < MOST_BYTES else ""
