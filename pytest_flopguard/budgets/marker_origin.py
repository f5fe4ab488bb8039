"""The source lines of markers, which pytest does not keep: the marker's arguments, found again in the test file."""

from __future__ import annotations

import ast
import tokenize
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from pytest_flopguard.budgets.draft import KeyPath
from pytest_flopguard.core.expectation import Origin
from pytest_flopguard.core.shown_path import shown_path

MARKER = "flop_budget"
_Function = (ast.FunctionDef, ast.AsyncFunctionDef)
_Literals = frozenset[tuple[str, str]]
_Scope = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkerOrigin:
    """Where a marker stands, and where each of its keyword arguments does."""

    origin: Origin
    keywords: Mapping[str, Origin] = field(default_factory=dict)

    def locate(self, path: KeyPath) -> Origin:
        """Return the place of a keyword argument, of the marker for the empty path."""
        return self.keywords.get(path[0], self.origin) if path else self.origin


@dataclass(frozen=True, slots=True, kw_only=True)
class _Call:
    """A use of the marker's name: its keywords (None for ``**more``), and the repr of those that are literal."""

    node: ast.expr
    names: frozenset[str | None]
    literals: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Module:
    """A parsed test file: the calls whose arguments are all literal by these arguments, and the others."""

    lines: tuple[bytes, ...]
    tree: ast.Module
    literal: Mapping[_Literals, Sequence[_Call]]
    computed: Sequence[_Call]


def marker_origin(
    file: Path, rootdir: Path, function: str, kwargs: Mapping[str, object], line: int | None = None
) -> MarkerOrigin:
    """Find the ``flop_budget(...)`` in a file that gave a test these arguments.

    The function is qualified with its classes (``"TestModel.test_forward"``). Where several calls have equal
    arguments, one that decorates the function wins, then its classes, then ``pytestmark``, then any other. Where
    none has, as when the arguments are computed elsewhere, the function's own line stands for it; ``line`` does if
    the file does not even have the function.
    """
    path = shown_path(file, rootdir)
    changed = _changed(file)
    module = _read(file, changed)
    if module is None:
        return MarkerOrigin(origin=Origin(path=path, line=line))
    nearness, own_line = _nearness(file, changed, function)
    # repr tells True from 1, and asks nothing of the types of the values.
    wanted = {name: repr(value) for name, value in kwargs.items()}
    best: ast.expr | None = None
    best_score = (False, False, 0, 0)
    for call in (*module.literal.get(frozenset(wanted.items()), ()), *module.computed):
        if not _may_give(call, wanted):
            continue
        near, proven = nearness.get(id(call.node), 0), len(call.literals) == len(wanted)
        # A guess from afar is worse than the function's own line, so there every argument must be equal.
        score = (near > 0, proven, near, len(call.literals))
        if (near or proven) and (best is None or score > best_score):
            best, best_score = call.node, score
    if best is None:
        return MarkerOrigin(origin=Origin(path=path, line=own_line or line))
    keywords = best.keywords if isinstance(best, ast.Call) else []
    return MarkerOrigin(
        origin=_place(best, path, module.lines),
        keywords={each.arg: _place(each, path, module.lines) for each in keywords if each.arg is not None},
    )


def _may_give(call: _Call, wanted: Mapping[str, str]) -> bool:
    """Whether a call can have given these arguments: the names fit, and so does every literal."""
    if call.names - {None} - set(wanted) or (None not in call.names and call.names != set(wanted)):
        return False
    return all(wanted[name] == literal for name, literal in call.literals.items())


def _changed(file: Path) -> int:
    try:
        return file.stat().st_mtime_ns
    except OSError:
        return 0


@lru_cache(maxsize=32)
def _read(file: Path, changed: int) -> _Module | None:
    """Parse a file once for all of its tests; ``changed`` only tells one version of it from the next."""
    try:
        with tokenize.open(file) as stream:
            source = stream.read()
        # What the compiler has to say of the file was said when pytest imported it.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(source)
    except (OSError, SyntaxError, ValueError):
        return None
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.expr) and _is_marker(node)]
    called = {id(node.func) for node in nodes if isinstance(node, ast.Call)}
    literal: dict[_Literals, list[_Call]] = {}
    computed: list[_Call] = []
    for node in sorted(nodes, key=lambda node: node.lineno):
        if id(node) not in called:
            call = _call(node)
            is_literal = call.names == call.literals.keys()
            (literal.setdefault(frozenset(call.literals.items()), []) if is_literal else computed).append(call)
    lines = tuple(source.encode("utf-8").split(b"\n"))
    return _Module(lines=lines, tree=tree, literal=literal, computed=computed)


def _is_marker(node: ast.expr) -> bool:
    target = node.func if isinstance(node, ast.Call) else node
    if isinstance(target, ast.Attribute):
        return target.attr == MARKER
    return isinstance(target, ast.Name) and isinstance(target.ctx, ast.Load) and target.id == MARKER


def _call(node: ast.expr) -> _Call:
    keywords = node.keywords if isinstance(node, ast.Call) else []
    literals: dict[str, str] = {}
    for each in keywords:
        if each.arg is not None:
            try:
                literals[each.arg] = repr(ast.literal_eval(each.value))
            except (ValueError, TypeError):
                continue
    return _Call(node=node, names=frozenset(each.arg for each in keywords), literals=literals)


@lru_cache(maxsize=128)
def _nearness(file: Path, changed: int, function: str) -> tuple[Mapping[int, int], int | None]:
    """Return how near to a function each expression is (by ``id``, more is nearer), and the function's line."""
    module = _read(file, changed)
    scopes = [] if module is None else _scopes(module.tree, function.split("."))
    places = [] if module is None else list(_places(module.tree, scopes))
    found: dict[int, int] = {}
    for near, tops in enumerate(reversed(places), start=1):
        found |= {id(node): near for top in tops for node in ast.walk(top)}
    return found, scopes[-1].lineno if scopes else None


def _scopes(tree: ast.Module, names: Sequence[str]) -> list[_Scope]:
    """Return the classes and the function that a qualified name goes through, empty where it leads nowhere."""
    found: list[_Scope] = []
    inside: ast.AST = tree
    for name in names:
        # The last definition of a name is the one that stays.
        named = [each for each in _definitions(inside) if each.name == name]
        if not named:
            return []
        inside = named[-1]
        found.append(named[-1])
    return found


def _definitions(inside: ast.AST) -> Iterator[_Scope]:
    for node in ast.iter_child_nodes(inside):
        if isinstance(node, (*_Function, ast.ClassDef)):
            yield node
        else:
            yield from _definitions(node)


def _places(tree: ast.Module, scopes: Sequence[_Scope]) -> Iterator[list[ast.AST]]:
    """Yield where a test's markers may be written, nearest first."""
    for scope in reversed(scopes):
        yield list(scope.decorator_list)
        if isinstance(scope, ast.ClassDef):
            yield list(_pytestmarks(scope.body))
    yield list(_pytestmarks(tree.body))


def _pytestmarks(body: Sequence[ast.stmt]) -> Iterator[ast.AST]:
    for node in body:
        targets: Sequence[ast.expr] = ()
        if isinstance(node, ast.Assign):
            targets = node.targets
        elif isinstance(node, ast.AnnAssign):
            targets = [node.target]
        if any(isinstance(each, ast.Name) and each.id == "pytestmark" for each in targets):
            yield node


def _place(node: ast.expr | ast.keyword, path: str, lines: Sequence[bytes]) -> Origin:
    # ast counts columns in bytes of UTF-8. Its own get_source_segment splits the whole file each time.
    segment = list(lines[node.lineno - 1 : node.end_lineno])
    segment[-1] = segment[-1][: node.end_col_offset]
    segment[0] = segment[0][node.col_offset :]
    text = b" ".join(segment).decode("utf-8")
    return Origin(path=path, line=node.lineno, text=" ".join(text.split()))
