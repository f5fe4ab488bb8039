"""Any text as one visible line: what a name or a reason becomes before it is shown beside others."""

from __future__ import annotations

import re
import unicodedata

# A line break of any kind, a tab, and the like: what a reader would see as a gap.
_GAP = re.compile(r"\s+")
# Letters, marks and symbols that show nothing: fillers, joiners, selectors but for the two of emoji.
_UNSEEN = re.compile(
    r"[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0d\uffa0\U000e0100-\U000e01ef]"
)


def one_line(text: str, most: int | None = None) -> str:
    r"""Return a text with every gap as one space and what cannot be seen spelled out: ``\x1b[31m``, ``\u202e``.

    ``most`` cuts it to so many characters, the last of them ``…``.
    """
    shown = _GAP.sub(" ", text).strip()
    if not shown.isprintable() or _UNSEEN.search(shown):
        shown = "".join(map(_visible, shown))
    return shown if most is None or len(shown) <= most else f"{shown[: most - 1]}…"


def visible(text: str) -> str:
    """Return a text of several lines with what cannot be seen spelled out, so that a terminal obeys nothing in it."""
    return "".join(each if each == "\n" else _visible(each) for each in text)


def _visible(character: str) -> str:
    # Controls, directions of writing, halves of characters: escape codes and hidden text are made of these.
    if unicodedata.category(character)[0] != "C" and not _UNSEEN.match(character):
        return character
    return character.encode("unicode_escape").decode("ascii")
