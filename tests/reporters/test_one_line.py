"""Any text as one visible line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_flopguard.reporters.one_line import one_line


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("tests/test_a.py::test_b[x-1]", "tests/test_a.py::test_b[x-1]"),
        ("a\nb\r\n\tc  d", "a b c d"),
        ("\x1b[31mred\x1b[0m", "\\x1b[31mred\\x1b[0m"),
        ("abc\u202egpj.exe", "abc\\u202egpj.exe"),
        ("\ud800", "\\ud800"),
        # Printable, and nothing to see: a filler of Hangul, a joiner of letters, an empty Braille cell, a selector.
        ("a\u3164\u115fb", "a\\u3164\\u115fb"),
        ("a\u034f\u2800\U000e0101", "a\\u034f\\u2800\\U000e0101"),
        ("done \u2714\ufe0f", "done \u2714\ufe0f"),
        ("  größer 模型  ", "größer 模型"),
        ("", ""),
    ],
)
def test_what_is_seen(text: str, shown: str) -> None:
    assert one_line(text) == shown


def test_a_cut_text_says_so_and_has_the_length() -> None:
    assert one_line("abcdef", 6) == "abcdef"
    assert one_line("abcdefg", 6) == "abcde…"


@given(st.text())
def test_it_is_one_printable_line_that_can_be_written(text: str) -> None:
    shown = one_line(text)
    assert shown.isprintable() or shown.replace("\xa0", " ").isprintable()
    assert len(shown.splitlines()) <= 1
    shown.encode("utf-8")
