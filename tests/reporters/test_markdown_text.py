"""Any text inside Markdown stays text: held against cmark-gfm, which is what GitHub renders with."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import cmarkgfm
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pytest_flopguard.reporters.markdown_text import cell, cell_code, code
from pytest_flopguard.reporters.one_line import one_line

HOSTILE = [
    "a | b \\| c \\\\| d",
    "`tick` ``two`` `",
    "<script>alert(1)</script>",
    "@ada and @org/team, a@example.org",
    "](http://evil.example) [x](http://evil.example) ![i](//evil.example/i.png)",
    "http://evil.example www.evil.example https://evil.example/x?y=z ftp://evil.example",
    "<!-- flopguard:default -->",
    "*em* __strong__ ~~gone~~ _a_ \\",
    "&lt;b&gt; &#60;i&#62;",
    "#12 owner/repo#34 GH-56 :tada:",
    "::error file=a.py,line=1::x",
    "\x1b[31mred\n\n# heading\r\n---",
    "- item",
    "+ item",
    "12. item",
    "12) item",
    "===",
    "    indented",
    "$a$ $$b$$",
    "[^1] [x] {#id}",
]
texts = st.one_of(st.text(), st.text(alphabet="`|\\<>@:#[]()!*_~&$-+=1.w/a \n"), st.sampled_from(HOSTILE))


class Seen(HTMLParser):
    """The tags of a page and the text between them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.cells: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag in ("td", "p"):
            self.cells.append("")

    def handle_data(self, data: str) -> None:
        if self.cells:
            self.cells[-1] += data

    def handle_endtag(self, tag: str) -> None:
        if tag == "tr":
            self.cells.append("")


def seen(markdown: str) -> Seen:
    return Seen(cmarkgfm.github_flavored_markdown_to_html(markdown))


def row(text: str) -> Seen:
    return seen(f"| a | b | c |\n|---|---|---|\n| 1 | {text} | 3 |\n")


def flat(text: str) -> str:
    """Return what a reader sees: HTML shows any gap as one space, and no space without width."""
    return re.sub(r"\s+", " ", text.replace("\u200b", "")).strip()


def filled(page: Seen) -> list[str]:
    return [flat(each) for each in page.cells if each.strip()]


TABLE = ["table", "thead", "tr", "th", "th", "th", "tbody", "tr", "td", "td", "td"]


@given(texts)
@example("a\\|b")
@example("\\")
def test_a_cell_holds_its_text_and_nothing_else(text: str) -> None:
    page = row(cell(text))
    assert [tag for tag in page.tags if tag != "span"] == TABLE
    assert filled(page) == ["1", *filter(None, [flat(one_line(text))]), "3"]


@given(texts)
def test_the_same_text_by_itself_is_one_paragraph(text: str) -> None:
    page = seen(cell(text))
    assert [tag for tag in page.tags if tag != "span"] in (["p"], [])
    assert flat("".join(page.cells)) == flat(one_line(text))


@given(texts)
@example("a\\|b")
@example("a\\\\|b")
@example("`|`")
def test_code_in_a_cell_is_code(text: str) -> None:
    page = row(cell_code(text))
    wanted = [*TABLE[:-1], "code", "td"] if one_line(text) else TABLE
    assert page.tags == wanted
    assert filled(page) == ["1", *filter(None, [flat(one_line(text))]), "3"]


@given(texts)
def test_code_on_a_line_is_code(text: str) -> None:
    page = seen(f"a {code(text)} b")
    assert page.tags == (["p", "code"] if one_line(text) else ["p"])
    assert flat("".join(page.cells)) == flat(f"a {one_line(text)} b")


@given(texts)
def test_nothing_is_left_for_a_second_reader_to_find(text: str) -> None:
    # GitHub looks for these in the text of the finished page, outside of code.
    found = "".join(row(cell(text)).cells)
    assert not re.search(r"@\w|#\d|://|www\.|gh-\d|:\w+:", found, re.IGNORECASE)
    assert "<!--" not in cell(text)


@pytest.mark.parametrize("text", HOSTILE)
def test_markup_as_it_is_would_be_seen(text: str) -> None:
    # The guard above can fail: without escaping most of these change the page.
    page = row(text.replace("\n", " "))
    same = page.tags == TABLE and "".join(page.cells).strip() == f"1{flat(text)}3"
    plain = text.startswith(("#12", "::error", "\x1b", "- item", "+ item", "12", "===", "    ", "$", "[^1]"))
    assert same <= plain


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        # A place in a file can be copied as it stands.
        ("pyproject.toml:5", "pyproject.toml:5"),
        ("model.py:41 in forward", "model.py:41 in forward"),
        (":100:", ":\u200b100:"),
        ("x:5: y", "x:\u200b5: y"),
        ("http://a:80 b", "http:\u200b//a:80 b"),
    ],
)
def test_a_line_number_is_no_emoji(text: str, shown: str) -> None:
    assert cell(text) == shown


def test_a_cut_counts_characters_before_they_are_escaped() -> None:
    assert cell("<<<<<<", 4) == "&#60;&#60;&#60;…"
    assert code("abcdef", 4) == "`abc…`"
    assert cell_code("a|b", 3) == "`a\\|b`"
