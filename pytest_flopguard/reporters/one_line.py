"""Any text as one visible line: what a name or a reason becomes before it is shown beside others."""

from __future__ import annotations

import re
import unicodedata

# A line break of any kind, a tab, and the like: what a reader would see as a gap.
_GAP = re.compile(r"\s+")


def one_line(text: str, most: int | None = None) -> str:
    r"""Return a text with every gap as one space and what cannot be seen spelled out: ``\x1b[31m``, ``\u202e``.

    ``most`` cuts it to so many characters, the last of them ``…``.
    """
    shown = _GAP.sub(" ", text).strip()
    if not shown.isprintable():
        shown = "".join(map(_visible, shown))
    return shown if most is None or len(shown) <= most else f"{shown[: most - 1]}…"


def visible(text: str) -> str:
    """Return a text of several lines with what cannot be seen spelled out, so that a terminal obeys nothing in it."""
    return "".join(each if each == "\n" else _visible(each) for each in text)


def _visible(character: str) -> str:
    # Controls, directions of writing, halves of characters: escape codes and hidden text are made of these.
    if unicodedata.category(character)[0] != "C":
        return character
    return character.encode("unicode_escape").decode("ascii")
