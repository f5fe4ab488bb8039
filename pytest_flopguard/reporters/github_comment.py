"""Runs as the one comment on a pull request that is found again by its first line."""

from __future__ import annotations

import re
from collections.abc import Sequence

from pytest_flopguard.reporters.github_body import body, headline, problem_body
from pytest_flopguard.reporters.github_entries import Leg
from pytest_flopguard.reporters.markdown_text import code

ID = re.compile(r"[A-Za-z0-9._/-]{1,64}")
DEFAULT_ID = "default"
# GitHub takes so many characters; bytes are never fewer.
LONGEST_BODY = 65_536
MOST_BYTES = 65_000


def marker(name: str) -> str:
    """Return the first line of the comment with an id; ValueError for what is no id."""
    if not ID.fullmatch(name):
        raise ValueError(f"{name!r} is no id of a comment")
    return f"<!-- flopguard:{name} -->"


def render(legs: Sequence[Leg], name: str, *, link: str = "") -> str:
    """Render runs as the comment with an id; ``link`` is where the job ran."""
    first = marker(name)
    return f"{first}\n{body(legs, most=MOST_BYTES - len(first) - 1, title=title(legs, name), link=link)}"


def title(legs: Sequence[Leg], name: str) -> str:
    """Return the headline of runs with their id, which the usual one does not need."""
    return headline(legs) + ("" if name == DEFAULT_ID else f" ({code(name)})")


def render_problem(problem: str, name: str, *, link: str = "") -> str:
    """Render why there is no run to show, in place of the numbers of an earlier one."""
    return f"{marker(name)}\n{problem_body(problem, link)}"
