"""The workflows that a page shows."""

from __future__ import annotations

import shlex
from pathlib import Path

from markdown_it import MarkdownIt

PAGE = Path(__file__).parent.parent.parent / "docs" / "how-to" / "run-in-github-actions.md"


def workflows() -> dict[str, str]:
    """Return the files that the page's blocks are titled with."""
    fences = (token for token in MarkdownIt("commonmark").parse(PAGE.read_text("utf-8")) if token.type == "fence")
    titled = ((dict(word.partition("=")[::2] for word in shlex.split(each.info)), each.content) for each in fences)
    return {words["title"]: text for words, text in titled if words.get("title", "").startswith(".github/workflows/")}
