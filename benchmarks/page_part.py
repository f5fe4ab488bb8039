"""The part of a page that a benchmark writes: what stands between two markers."""

from __future__ import annotations

from pathlib import Path


def put_into_page(page: Path, begin: str, end: str, text: str) -> None:
    """Replace what stands between the markers; ValueError, and the page as it was, where they are not there."""
    before = page.read_text(encoding="utf-8")
    head, found, rest = before.partition(begin)
    _, closed, tail = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"{page} has no {begin} with an {end} after it")
    page.write_text(f"{head}{begin}\n\n{text}\n\n{end}{tail}", encoding="utf-8")
