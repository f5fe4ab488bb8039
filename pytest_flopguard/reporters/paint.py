"""Colours of verdicts, put on lines that are laid out already."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Literal

Tone = Literal["bad", "open", "good"]
# Returns a text in the colour of a tone, or as it is where there are no colours.
Paint = Callable[[str, Tone], str]

_WORDS: dict[str, Tone] = {
    **dict.fromkeys(("OVER", "UNDER", "DIFFERS", "failed"), "bad"),
    **dict.fromkeys(("undecided", "warn", "changed", "gone"), "open"),
    "ok": "good",
}
# A verdict stands at the end of its line, behind the gap between two columns.
_VERDICT = re.compile(rf"(?<=  )({'|'.join(_WORDS)})$")


def plain(text: str, tone: Tone) -> str:
    """Leave a text as it is."""
    return text


def painted(lines: Sequence[str], paint: Paint) -> list[str]:
    """Paint the verdict at the end of each line that has one; no line gets wider to a reader."""
    return [_VERDICT.sub(lambda found: paint(found[0], _WORDS[found[0]]), line) for line in lines]
