"""The baseline file of one test module: ``__flopguard__/test_gpt2.toml`` beside ``test_gpt2.py``, read strictly."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

from pytest_flopguard.budgets.toml_lines import NESTED, TomlLines, check_tree
from pytest_flopguard.core.baseline import Baseline
from pytest_flopguard.core.baseline_plain import PlainError, baseline_from_plain
from pytest_flopguard.core.errors import Problem, UsageError, nearest, problem
from pytest_flopguard.core.expectation import Origin

FOLDER = "__flopguard__"
FORMAT_VERSION = 1
# A file that was cut short at a line's end is still TOML: only its last line tells.
END = "# The end: what stands above is whole."
# How git begins a place where two sides of a merge meet.
_CONFLICT = b"<<<<<<< "
# A test's name in its module (``TestStep::test_small[2]``), and the region, empty for the whole test.
Block = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class BaselineFile:
    """Entries by block. ``texts`` holds each as it stands in the file, comments and all, and ``lines`` its place."""

    path: Path
    shown: str
    entries: Mapping[Block, Baseline] = field(default_factory=dict)
    lines: Mapping[Block, int] = field(default_factory=dict)
    texts: Mapping[Block, str] = field(default_factory=dict)

    def origin(self, block: Block) -> Origin:
        """Return where an entry stands."""
        return Origin(path=self.shown, line=self.lines.get(block))


def baseline_path(module: Path) -> Path:
    """Return where the baselines of a test module are kept: ``test_a.toml`` for ``test_a.py``.

    Other files keep their whole name, which has a dot, so that no two files of a directory share one.
    """
    name = module.name.removesuffix(".py")
    if "." in name or name == module.name:
        name = module.name if "." in module.name else f"{module.name}."
    return module.parent / FOLDER / f"{name}.toml"


def module_of(path: PurePath) -> str:
    """Return the test module, as a node id begins, that a baseline file is for."""
    name = path.name.removesuffix(".toml")
    return (path.parent.parent / (name.removesuffix(".") if "." in name else f"{name}.py")).as_posix()


def read_baselines(path: Path, shown: str) -> BaselineFile:
    """Read a file, named ``shown`` in messages; no file has no entries. UsageError with every mistake in it."""
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return BaselineFile(path=path, shown=shown)
    except OSError as error:
        raise UsageError([_bad(shown, error.strerror or str(error))]) from error
    return parse_baselines(raw, path, shown)


def parse_baselines(raw: bytes, path: Path, shown: str) -> BaselineFile:
    """Read the bytes of a file."""
    import tomli

    from pytest_flopguard.budgets.settings import error_line

    try:
        # Line ends as git may have turned them.
        text = raw.decode("utf-8").replace("\r\n", "\n")
        tree: Any = tomli.loads(text)
        check_tree(tree)
    except RecursionError as error:
        raise UsageError([_bad(f"{shown}:1", NESTED)]) from error
    except ValueError as error:
        lines_of = enumerate(raw.splitlines(), 1)
        merged = next((number for number, line in lines_of if line.startswith(_CONFLICT)), None)
        if merged is not None:
            told = (
                "a merge left conflict markers in it: keep the entries of both sides; where both have the same entry, "
                "keep one whole and measure it again with --flop-update=changed"
            )
            raise UsageError([_bad(f"{shown}:{merged}", told)]) from error
        raise UsageError([_bad(f"{shown}:{error_line(error, raw)}", f"not valid TOML, {error}")]) from error
    last = text.count("\n") + 1
    version = tree.pop("format_version", None)
    if type(version) is not int:
        raise UsageError([_bad(f"{shown}:1", "it has no format_version")])
    if version != FORMAT_VERSION:
        age = "a newer" if version > FORMAT_VERSION else "another"
        told = f"{age} flopguard wrote it: format_version {version}, and this one reads {FORMAT_VERSION}"
        raise UsageError([_bad(f"{shown}:1", told)])
    if not text.rstrip().endswith(END):
        raise UsageError([_bad(f"{shown}:{last}", f"it is cut short: its last line, {END!r}, is missing")])
    problems: list[Problem] = []
    entries: dict[Block, Baseline] = {}
    lines: TomlLines | None = None
    for path_of, block, table in _tables(tree):
        try:
            if block is None:
                raise PlainError((), f"no part of a baseline file{nearest(path_of[-1], ['test', 'region'])}")
            entries[block] = baseline_from_plain(table)
        except PlainError as error:
            lines = lines or TomlLines(text, tomli.loads)
            found = lines.find((*path_of, *error.path))
            problems.append(_bad(f"{shown}:{found.line if found else 1}", f"{' '.join(path_of[1:])}: {error}"))
    if problems:
        raise UsageError(problems)
    texts = dict(_texts(text))
    return BaselineFile(
        path=path,
        shown=shown,
        entries=entries,
        lines={block: line for block, (line, _) in texts.items()},
        texts={block: source for block, (_, source) in texts.items()},
    )


def read_entries(source: str) -> dict[Block, Baseline]:
    """Read the text of an entry by itself; none where it is no text of entries."""
    import tomli

    try:
        tree = tomli.loads(source)
        return {block: baseline_from_plain(table) for _, block, table in _tables(tree) if block is not None}
    except ValueError:
        return {}


def _tables(tree: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], Block | None, object]]:
    """Yield the key path, the block and the table of each entry; no block for what belongs nowhere."""
    for key, tests in tree.items():
        if key != "test" or not isinstance(tests, Mapping):
            yield (key,), None, tests
            continue
        for name, table in tests.items():
            if not isinstance(table, Mapping):
                yield ("test", name), None, table
                continue
            regions = table.get("region", {})
            own = {inner: value for inner, value in table.items() if inner != "region"}
            if own:
                yield ("test", name), (name, ""), own
            for region, inner in regions.items() if isinstance(regions, Mapping) else ():
                yield ("test", name, "region", region), (name, region), inner
            if not isinstance(regions, Mapping):
                yield ("test", name, "region"), None, regions


def _texts(text: str) -> Iterator[tuple[Block, tuple[int, str]]]:
    """Yield the lines of each entry: from its first table header to that of the next entry."""
    lines = text.split("\n")
    starts: list[tuple[int, Block]] = []
    for number, line in enumerate(lines):
        block = _block_of(line) if line.startswith("[") else None
        if block is not None and (not starts or starts[-1][1] != block):
            # A comment right above a header is about what follows.
            while number and lines[number - 1].startswith("#"):
                number -= 1
            starts.append((number, block))
    found: dict[Block, tuple[int, str]] = {}
    for index, (number, block) in enumerate(starts):
        end = starts[index + 1][0] if index + 1 < len(starts) else len(lines)
        source = "\n".join(line for line in lines[number:end] if line != END).strip("\n") + "\n"
        # Tables of one entry that stand apart, as TOML allows, belong together.
        header = next(at for at in range(number, end) if lines[at].startswith("["))
        place, before = found.get(block, (header + 1, ""))
        found[block] = (place, before + source)
    yield from found.items()


def _block_of(header: str) -> Block | None:
    import tomli

    try:
        inner: Any = tomli.loads(header)
    except ValueError:
        return None
    keys: list[str] = []
    while isinstance(inner, Mapping) and inner:
        key, inner = next(iter(inner.items()))
        keys.append(key)
    if len(keys) < 2 or keys[0] != "test":
        return None
    return (keys[1], keys[3]) if len(keys) > 3 and keys[2] == "region" else (keys[1], "")


def _bad(where: str, reason: str) -> Problem:
    return problem("bad-baseline", where, reason=reason)
