"""Every key of a TOML text is found on the line where its statement begins."""

from __future__ import annotations

import json
from typing import Any

import pytest
import tomli
from hypothesis import given
from hypothesis import strategies as st

from pytest_flopguard.budgets.toml_lines import KeyPath, TomlLines

MANY_SHAPES = '''\
title = "x"  # a comment

[tool.flopguard]
engine = "dispatch" # with # two
cross-check = [
    "fvcore",  # why ]
    "other",
]
text = """
[tool.flopguard.not-a-header]
hidden = 1
"""
raw = \'\'\'
also = "hidden"\'\'\'
dotted.key.path = 1
dotted."quoted \\" # key".x = 2
"spaced key" = "# no comment"
inline = { flops = "9 GFLOP", memory = { cpu = "1 GiB" } }

[tool.flopguard.budgets."tests/t.py::test_a[x-1]"]
flops = 1_000

[[tool.many]]
a = 1
[tool.many.sub]
b = 2
[[tool.many]]
a = 3
[tool.many.sub]
b = 4
[[tool.many.deep]]
c = 5
[[tool.many.deep]]
c = [{ d = 6 }, { d = 7 }]

[ spaced . "out" ]
z = nan # not equal to itself
'''


def find(text: str, *path: str | int) -> tuple[int, str] | None:
    found = TomlLines(text, tomli.loads).find(path)
    return None if found is None else (found.line, found.text)


@pytest.mark.parametrize(
    ("path", "line", "text"),
    [
        (("title",), 1, 'title = "x"'),
        (("tool",), 3, "[tool.flopguard]"),
        (("tool", "flopguard"), 3, "[tool.flopguard]"),
        (("tool", "flopguard", "engine"), 4, 'engine = "dispatch"'),
        (("tool", "flopguard", "cross-check"), 5, None),
        (("tool", "flopguard", "cross-check", 1), 5, None),
        (("tool", "flopguard", "text"), 9, None),
        (("tool", "flopguard", "raw"), 13, None),
        (("tool", "flopguard", "dotted", "key", "path"), 15, "dotted.key.path = 1"),
        (("tool", "flopguard", "dotted", 'quoted " # key', "x"), 16, 'dotted."quoted \\" # key".x = 2'),
        (("tool", "flopguard", "spaced key"), 17, '"spaced key" = "# no comment"'),
        (("tool", "flopguard", "inline", "memory", "cpu"), 18, None),
        (("tool", "flopguard", "budgets"), 20, None),
        (("tool", "flopguard", "budgets", "tests/t.py::test_a[x-1]", "flops"), 21, "flops = 1_000"),
        (("tool", "many"), 23, "[[tool.many]]"),
        (("tool", "many", 0), 23, "[[tool.many]]"),
        (("tool", "many", 0, "a"), 24, "a = 1"),
        (("tool", "many", 0, "sub"), 25, "[tool.many.sub]"),
        (("tool", "many", 0, "sub", "b"), 26, "b = 2"),
        (("tool", "many", 1), 27, "[[tool.many]]"),
        (("tool", "many", 1, "a"), 28, "a = 3"),
        (("tool", "many", 1, "sub", "b"), 30, "b = 4"),
        (("tool", "many", 1, "deep", 0, "c"), 32, "c = 5"),
        (("tool", "many", 1, "deep", 1), 33, "[[tool.many.deep]]"),
        (("tool", "many", 1, "deep", 1, "c", 1, "d"), 34, None),
        (("spaced", "out", "z"), 37, "z = nan"),
    ],
)
def test_the_line_of_a_key_is_that_of_its_statement(path: KeyPath, line: int, text: str | None) -> None:
    found = find(MANY_SHAPES, *path)
    assert found is not None
    assert found[0] == line
    assert text is None or found[1] == text


def test_the_text_of_several_lines_stands_on_one() -> None:
    assert find("a = [\n  1,\n  2 ]  # two\n", "a") == (1, "a = [ 1, 2 ]")


def test_an_unknown_key_stands_where_the_nearest_one_around_it_does() -> None:
    text = "[a]\nb = 1\n"
    assert find(text, "a", "b", "c") == (2, "b = 1")
    assert find(text, "a", "x") == (1, "[a]")
    assert find(text, "x") is None


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_line_ends_count_as_an_editor_counts_them(end: str) -> None:
    # A Unicode line separator ends no line.
    text = end.join(["# no \u2028 line", 's = "a\u2028b"', "b = 1", ""])
    assert find(text, "b") == (3, "b = 1")


KEYS = st.text(min_size=1, max_size=3) | st.sampled_from(["a", "b-c", "tests/t.py::test_a[x]", "#", '"', "]"])
SCALARS = (
    st.integers(0, 99) | st.booleans() | st.text(max_size=5) | st.sampled_from(["]", "#", "}", '"""', "'''", "[a]"])
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=6,
)
TABLES = st.dictionaries(KEYS, st.dictionaries(KEYS, VALUES, max_size=4), max_size=4)


def quoted(text: str) -> str:
    # JSON writes a character past U+FFFF as two escapes, which TOML refuses.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def written(value: Any, spread: bool) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{quoted(key)} = {written(inner, False)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        joint = ",\n  # ] not yet\n  " if spread else ", "
        return "[" + joint.join(written(inner, spread) for inner in value) + "]"
    return quoted(value) if isinstance(value, str) else json.dumps(value)


def expected_lines(value: Any, path: KeyPath, line: int) -> dict[KeyPath, int]:
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    lines = {path: line}
    for key, inner in members:
        lines |= expected_lines(inner, (*path, key), line)
    return lines


@given(TABLES, st.booleans())
def test_every_key_that_is_written_is_found_where_it_was_written(
    tables: dict[str, dict[str, Any]], spread: bool
) -> None:
    lines: list[str] = []
    expected: dict[KeyPath, int] = {}
    for name, table in tables.items():
        lines.append(f"[{quoted(name)}] # a table")
        expected[(name,)] = len(lines)
        for key, value in table.items():
            expected |= expected_lines(value, (name, key), len(lines) + 1)
            lines += f"{quoted(key)} = {written(value, spread)} # ]".split("\n")
        lines.append("")
    text = "\n".join(lines)
    assert tomli.loads(text) == tables
    found = TomlLines(text, tomli.loads)
    assert {path: found.find(path).line for path in expected} == expected  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "text",
    [
        'a = "' + "#" * 20_000 + '"\n',
        "a = [\n" + "[1]\n,\n" * 3_000 + "]\n",
        'a = """\n' + "x]\n" * 6_000 + '"""\n',
        "a = [\n" + '  { name = "b", url = "https://x" },\n  # c }\n' * 2_000 + "]\n",
        "[t]\na = 1\n" + "".join(f'["t{each}"]\nb = {each} # c\n' for each in range(2_000)),
        "[" + ".".join("a" * 500) + "]\nb = 1\n",
    ],
    ids=["hashes", "array", "text", "tables in an array", "4,000 lines", "deep header"],
)
def test_each_statement_is_parsed_once(text: str) -> None:
    parsed: list[str] = []

    def parse(source: str) -> dict[str, Any]:
        parsed.append(source)
        return tomli.loads(source)

    TomlLines(text, parse)
    # Together no longer than the text and a line break for each, so the time grows with the length and not its square.
    assert sum(map(len, parsed)) <= len(text) + len(parsed)


def test_comments_and_quotes_in_every_kind_of_text() -> None:
    text = 'a = """"x\\""""""\nb = \'\'\'y\'\'\'\'\' # z\nc = "\\""  # "\n[ d . "e#]" ] # h\n  f = 1\n'
    lines = TomlLines(text, tomli.loads)
    assert [lines.find(path) for path in (("a",), ("b",), ("c",), ("d", "e#]"), ("d", "e#]", "f"))] == [
        (1, 'a = """"x\\""""""'),
        (2, "b = '''y'''''"),
        (3, 'c = "\\""'),
        (4, '[ d . "e#]" ]'),
        (5, "f = 1"),
    ]
