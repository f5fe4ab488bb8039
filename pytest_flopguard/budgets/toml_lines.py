"""Where each key of a TOML text stands, which TOML readers do not tell."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

# Deeper than any table of ours, and far from the limit of the interpreter's stack.
_DEEPEST = 64
# Bits: more than an amount of anything.
_LARGEST = 512
NESTED = "it is nested too deeply"
_TOKEN = re.compile(r"""\"{3}|'{3}|"(?:[^"\\\n]|\\.)*"|'[^'\n]*'|#[^\n]*|[\[\]{}\n]""")
KeyPath = tuple[str | int, ...]
Parse = Callable[[str], dict[str, Any]]


class Statement(NamedTuple):
    """A key with its value or a table header: its first line, 1-based, and its text on one line, no comment."""

    line: int
    text: str


class TomlLines:
    """The statements of a TOML text that is known to be valid, by the key paths that they write.

    Inline tables and arrays stand where their statement begins; members of arrays of tables count from 0.
    ``parse`` reads a TOML text and raises ValueError where it is wrong.
    """

    def __init__(self, text: str, parse: Parse) -> None:
        self._found: dict[KeyPath, Statement] = {}
        self._last: dict[KeyPath, int] = {}
        table: KeyPath = ()
        for statement, tree in _statements(text, parse):
            if statement.text.startswith("["):
                table = self._open(statement, tree)
            else:
                for path in _paths(tree, table):
                    self._found.setdefault(path, statement)

    def find(self, path: KeyPath) -> Statement | None:
        """Return the statement that first writes a key path, or the nearest path around it."""
        for length in range(len(path), 0, -1):
            if path[:length] in self._found:
                return self._found[path[:length]]
        return None

    def _open(self, statement: Statement, tree: Mapping[str, Any]) -> KeyPath:
        """Enter the table of a header: ``[a.b]`` means the last ``b`` where ``[[a.b]]`` was written before."""
        path: KeyPath = ()
        inner: Any = tree
        while inner and len(path) < _DEEPEST:
            name, inner = next(iter(inner.items()))
            path += (name,)
            self._found.setdefault(path, statement)
            if isinstance(inner, list):
                self._last[path] = self._last.get(path, -1) + 1
                inner = inner[0]
            if path in self._last:
                path += (self._last[path],)
                self._found.setdefault(path, statement)
        return path


def check_tree(tree: object) -> None:
    """Check that what a TOML text holds can be read and shown in little time and memory; ValueError."""
    pending: list[tuple[object, int]] = [(tree, 0)]
    while pending:
        value, depth = pending.pop()
        if depth > _DEEPEST:
            raise ValueError(NESTED)
        if isinstance(value, int) and value.bit_length() > _LARGEST:
            raise ValueError(f"a number of more than {_LARGEST} bits")
        if isinstance(value, Mapping):
            pending += [(each, depth + 1) for each in value.values()]
        elif isinstance(value, list):
            pending += [(each, depth + 1) for each in value]


def _statements(text: str, parse: Parse) -> Iterator[tuple[Statement, dict[str, Any]]]:
    for line, source in _sources(text.replace("\r\n", "\n")):
        yield Statement(line, " ".join(source.split())), parse(source)


def _sources(text: str) -> Iterator[tuple[int, str]]:
    """Yield the first line of each statement and its text without comments, in one pass over a valid text."""
    line, depth, position, first = 1, 0, 0, 0
    parts: list[str] = []
    text += "\n"
    while token := _TOKEN.search(text, position):
        before = text[position : token.start()]
        found, position = token.group(), token.end()
        if found in ('"""', "'''"):
            position = _end_of_text(text, position, found)
            found = text[token.start() : position]
        if not parts and (before.strip() or not found.startswith(("#", "\n"))):
            first = line
        if parts or first == line:
            parts += [before, "" if found.startswith("#") else found]
        line += found.count("\n")
        depth += (found in "[{") - (found in "]}")
        if found == "\n" and not depth:
            if parts:
                yield first, "".join(parts)
            parts = []


def _end_of_text(text: str, start: int, quotes: str) -> int:
    """Return where a text of several lines ends, whose content begins at ``start``."""
    end = text.index(quotes, start)
    while quotes == '"""' and _is_escaped(text, end):
        end = text.index(quotes, end + 1)
    end += len(quotes)
    # Up to two quotes right before the end belong to the text.
    for _ in range(2):
        end += text[end : end + 1] == quotes[0]
    return end


def _is_escaped(text: str, position: int) -> bool:
    slashes = 0
    while text[position - 1 - slashes] == "\\":
        slashes += 1
    return slashes % 2 == 1


def _paths(value: Any, path: KeyPath) -> Iterator[KeyPath]:
    members: Any = ()
    if len(path) >= _DEEPEST:
        return
    if isinstance(value, dict):
        members = value.items()
    elif isinstance(value, list):
        members = enumerate(value)
    for name, inner in members:
        yield (*path, name)
        if isinstance(inner, (dict, list)):
            yield from _paths(inner, (*path, name))
