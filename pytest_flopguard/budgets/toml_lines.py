"""Where each key of a TOML text stands, which TOML readers do not tell."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

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
        while inner:
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


def _statements(text: str, parse: Parse) -> Iterator[tuple[Statement, dict[str, Any]]]:
    # Not splitlines: a form feed or a Unicode line separator ends no line for TOML, nor for an editor.
    lines = text.replace("\r\n", "\n").split("\n")
    start = 0
    while start < len(lines):
        end = start + 1
        tree = _parsed("\n".join(lines[start:end]), parse)
        while tree is None and end < len(lines):
            end += 1
            if _may_close(lines[end - 1]):
                tree = _parsed("\n".join(lines[start:end]), parse)
        if tree:
            source = _without_comment("\n".join(lines[start:end]), tree, parse)
            yield Statement(start + 1, " ".join(source.split())), tree
        start = end


def _may_close(line: str) -> bool:
    """Whether a value of several lines may end here, a comment aside; other lines are not worth a parse."""
    ends = [len(line), *(position for position, character in enumerate(line) if character == "#")]
    return any(line[:end].rstrip().endswith(("]", "}", '"""', "'''")) for end in ends)


def _parsed(text: str, parse: Parse) -> dict[str, Any] | None:
    try:
        return parse(text)
    except ValueError:
        return None


def _without_comment(source: str, tree: dict[str, Any], parse: Parse) -> str:
    for position, character in enumerate(source):
        if character == "#" and _parsed(source[:position], parse) == tree:
            return source[:position]
    return source


def _paths(value: Any, path: KeyPath) -> Iterator[KeyPath]:
    members: Any = ()
    if isinstance(value, dict):
        members = value.items()
    elif isinstance(value, list):
        members = enumerate(value)
    for name, inner in members:
        yield (*path, name)
        yield from _paths(inner, (*path, name))
