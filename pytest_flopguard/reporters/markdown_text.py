"""Any text inside Markdown that GitHub renders, and nothing but text there: no markup, link, mention or reference."""

from __future__ import annotations

import re

from pytest_flopguard.reporters.one_line import one_line

# References to characters mean the characters, and never markup, in Markdown and in HTML alike.
_REFERENCES = {ord(each): f"&#{ord(each)};" for each in "&<>\"'\\`*_{}[]()|~!^#"}
# GitHub reads formulas between dollar signs even so, and documents a span around each as the way out.
_REFERENCES[ord("$")] = "<span>&#36;</span>"
# Mentions, issues, addresses and emoji are found in the finished text, so something has to stand in it: a space without
# width behind "@", "#" and ":", in "www." and in "GH-1". A number that ends behind a colon is a line of a file.
_GAP = "\u200b"
_FOUND_LATER = re.compile(r"[@#](?=\S)|:(?!\d+(?:\s|$))(?=[^\s:])|\bwww(?=\.)|\bgh-(?=\d)", re.IGNORECASE)
# What makes a list, a heading or a rule of a line that begins with it.
_OPENING = re.compile(r"^[-+](?=\s|$)|^-(?=[-\s]*$)|^=(?==*$)|(?<=\d)\.(?=\s|$)")


def cell(text: str, most: int | None = None) -> str:
    """Return a text for a cell of a table, and for anywhere else on a line, also between HTML tags."""
    told = _FOUND_LATER.sub(lambda found: found[0] + _GAP, one_line(text, most))
    return _OPENING.sub(lambda found: f"&#{ord(found[0])};", told.translate(_REFERENCES))


def code(text: str, most: int | None = None) -> str:
    """Return a text as code, for a line outside of tables; empty for nothing."""
    told = one_line(text, most)
    if not told:
        return ""
    fence = "`" * (max(map(len, re.findall("`+", told)), default=0) + 1)
    # Of a backtick beside the fence nobody could tell where the code begins.
    pad = " " if "`" in (told[0], told[-1]) else ""
    return f"{fence}{pad}{told}{pad}{fence}"


def cell_code(text: str, most: int | None = None) -> str:
    """Return a text as code, for a cell of a table."""
    # Tables are cut into cells before anything else is read, and a pipe's own backslash is taken away there.
    return code(text, most).replace("|", "\\|")
