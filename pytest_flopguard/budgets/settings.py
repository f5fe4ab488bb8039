"""``[tool.flopguard]`` of pyproject.toml and the command line, as one value; nothing else reads TOML."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pytest_flopguard.budgets.draft import Draft, KeyPath
from pytest_flopguard.budgets.options import OPTIONS, BadValueError, Option
from pytest_flopguard.core.baseline_verdict import Improvement, Update
from pytest_flopguard.core.errors import Problem, UsageError, nearest, problem
from pytest_flopguard.core.expectation import Origin, Quantity, Severity
from pytest_flopguard.core.measurement import Attention

if TYPE_CHECKING:
    from pytest_flopguard.budgets.declared import Budget
    from pytest_flopguard.core.described_gpu import DescribedGpu

PYPROJECT = "pyproject.toml"
TABLE = ("tool", "flopguard")
_DEFAULT = Origin(path="default")
_COMMAND_LINE = Origin(path="command line")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the run was asked to do: one field for each option of ``options.OPTIONS``.

    ``gpus`` are those that the project describes, by name. ``tolerance`` holds the tolerances as written, by quantity.
    ``budgets`` are in the order of the file, with the
    default budget last: what ``resolve`` takes. Report paths of pyproject.toml start at ``rootdir``, those of the
    command line where it was typed. ``pyproject`` is the file that was read, None where there is none, and ``written``
    whether it has settings of ours. ``origins`` has the options that were set.
    """

    enabled: bool
    measure: Literal["all", "guarded"]
    engine: Literal["dispatch", "fvcore"]
    cross_check: tuple[str, ...]
    attention: Attention
    bytes_moved: bool
    device: str
    warm_up: bool
    unknown_ops: Severity
    unknown_memory: Severity
    gpus: Mapping[str, DescribedGpu]
    tolerance: Mapping[Quantity, object]
    improvement: Improvement
    strict: bool
    update: tuple[Update, ...]
    reason: str
    update_in_ci: bool
    why: str
    report: tuple[Path, ...]
    budgets: tuple[Budget, ...]
    rootdir: Path
    pyproject: Path | None
    written: bool
    origins: Mapping[str, Origin]

    def origin(self, name: str) -> Origin:
        """Return where an option was set: a line of pyproject.toml, ``command line``, or ``default``."""
        if all(each.name != name for each in OPTIONS):
            raise KeyError(name)
        return self.origins.get(name, _DEFAULT)


def load_settings(rootdir: Path, command_line: Mapping[str, object]) -> Settings:
    """Read ``[tool.flopguard]`` of ``rootdir/pyproject.toml`` and the command line, which comes first.

    ``command_line`` holds values by option name, None for what was not given. Raises UsageError with everything
    that is wrong in either.
    """
    problems: list[Problem] = []
    file = rootdir / PYPROJECT
    table, draft = read_table(file, PYPROJECT, problems)
    written = table or {}
    given = {name: value for name, value in command_line.items() if value is not None}
    typed = Draft("command line", joiner="-", locate=lambda path: _COMMAND_LINE, problems=problems)
    names = [each.name for each in OPTIONS]
    refuse_unknown(written, draft)
    for key in [each for each in given if each not in names]:
        typed.complain("unknown-setting", (key,), name=key, hint=nearest(key, names))
    values = _read_values(written, draft, given, typed) | read_limits(written, draft) | {"gpus": {}}
    if "gpus" in written:
        from pytest_flopguard.budgets.own_gpus import read_gpus

        values["gpus"] = read_gpus(draft.inside("gpus"), written["gpus"])
    origins = {name: _COMMAND_LINE if name in given else draft.locate((name,)) for name in (*written, *given)}
    if values["engine"] in values["cross_check"]:
        place = typed if "cross-check" in given else draft
        expected = f"an engine other than {values['engine']!r}, which counts already"
        place.complain_value(("cross-check",), list(values["cross_check"]), expected)
    if problems:
        raise UsageError(sorted(problems, key=place_of))
    if "report" not in given:
        values["report"] = [rootdir / each for each in values["report"]]
    values["report"] = tuple(map(Path, values["report"]))
    read = file if file.is_file() else None
    return Settings(rootdir=rootdir, pyproject=read, written=bool(written), origins=origins, **values)


def place_of(problem: Problem) -> tuple[str, int]:
    """Return what sorts problems as they stand: the file and the line."""
    file, _, line = problem.where.rpartition(":")
    return (file, int(line)) if line.isdecimal() else (problem.where, 0)


def refuse_unknown(written: Mapping[str, object], draft: Draft) -> None:
    """Complain of every key of a file that is no option, or one that only a person may ask for."""
    names = [each.name for each in OPTIONS]
    flags = {each.name: each.flag for each in OPTIONS if each.typed}
    for key in written:
        if key in flags:
            hint = f"; it is for the command line only, as {flags[key]}"
            draft.complain("unknown-setting", (key,), name=key, hint=hint)
        elif key not in names:
            draft.complain("unknown-setting", (key,), name=key, hint=nearest(key, names))


def has_table(file: Path) -> bool:
    """Whether a file has a table of ours, as far as can be told without reading TOML."""
    try:
        return f"[{'.'.join(TABLE)}".encode() in file.read_bytes()
    except OSError:
        return False


def read_table(file: Path, shown: str, problems: list[Problem]) -> tuple[Mapping[str, object] | None, Draft]:
    """Return our table of a pyproject.toml, None where it has none, and the draft that it is read from.

    ``shown`` is how reports name the file.
    """

    def draft(locate: Callable[[KeyPath], Origin]) -> Draft:
        return Draft(".".join(TABLE), joiner="-", locate=locate, problems=problems)

    try:
        # A link that leads nowhere is a mistake, and no file is none.
        raw = file.read_bytes() if os.path.lexists(file) else b""
    except OSError as error:
        problems.append(problem("bad-toml", shown, reason=f"it cannot be read, {error.strerror or error}"))
        return None, draft(lambda path: _DEFAULT)
    # Most projects that do not use us are told so here, without a TOML reader.
    if TABLE[-1].encode() not in raw:
        return None, draft(lambda path: _DEFAULT)
    import tomli

    from pytest_flopguard.budgets.toml_lines import NESTED, TomlLines, check_tree

    try:
        text = raw.decode("utf-8")
        inside: Any = tomli.loads(text)
    except (ValueError, RecursionError) as error:
        wrong = Origin(path=shown, line=error_line(error, raw) if isinstance(error, ValueError) else 1)
        reason = error if isinstance(error, ValueError) else NESTED
        draft(lambda path: wrong).complain("bad-toml", (), reason=reason)
        return None, draft(lambda path: _DEFAULT)
    lines = TomlLines(text, tomli.loads)

    def locate(path: KeyPath) -> Origin:
        found = lines.find((*TABLE, *path))
        return Origin(path=shown, line=found.line, text=found.text) if found else _DEFAULT

    for key in TABLE:
        inside = inside.get(key) if isinstance(inside, Mapping) else None
    if inside is not None and not isinstance(inside, Mapping):
        draft(locate).complain_value((), inside, "a table")
        inside = {}
    try:
        check_tree(inside)
    except ValueError as error:
        draft(locate).complain("bad-toml", (), reason=error)
        inside = {}
    return inside, draft(locate)


def error_line(error: ValueError, raw: bytes) -> int:
    """Return the line that a reader stopped at; older tomli tells it in its message only."""
    if isinstance(error, UnicodeDecodeError):
        return 1 + raw[: error.start].count(b"\n")
    _, found, place = str(error).rpartition("(at line ")
    return int(place.partition(",")[0]) if found else raw.count(b"\n") + 1


def _read_values(
    written: Mapping[str, object], draft: Draft, given: Mapping[str, object], typed: Draft
) -> dict[str, Any]:
    """Read every option that stands on its own; what the command line hides must be right all the same."""
    values: dict[str, Any] = {}
    for option in OPTIONS:
        if option.parse is not None:
            values[option.attribute] = option.parse(option, option.default)
            for table, place, name in ((written, draft, option.name), (given, typed, option.flag)):
                if option.name in table:
                    read = read_value(option, table[option.name], place, name)
                    values[option.attribute] = values[option.attribute] if read is None else read
    return values


def read_value(option: Option, value: object, draft: Draft, name: str) -> object:
    """Read the value of an option that stands on its own; None, with a problem, where it takes no such value."""
    if option.parse is None:
        return None
    try:
        return option.parse(option, value)
    except BadValueError as hint:
        draft.complain("bad-value", (option.name,), name=name, value=value, expected=option.values, hint=hint)
        return None


def read_limits(written: Mapping[str, object], draft: Draft) -> dict[str, Any]:
    """Read the budgets, and the tolerance that holds where they say nothing of it."""
    values: dict[str, Any] = {"tolerance": {}, "budgets": ()}
    if not any(key in written for key in ("tolerance", "budgets", "default-budget")):
        return values
    from pytest_flopguard.budgets.declared import read_budget, read_budgets
    from pytest_flopguard.budgets.tolerances import QUANTITIES, read_tolerances

    if "tolerance" in written:
        values["tolerance"] = read_tolerances(draft, ("tolerance",), written["tolerance"], QUANTITIES)
    if "budgets" in written:
        values["budgets"] = read_budgets(draft.inside("budgets"), written["budgets"], values["tolerance"])
    if "default-budget" in written:
        table = written["default-budget"]
        inside = draft.inside("default-budget")
        default = read_budget(inside, table, "default-budget", "default", values["tolerance"])
        values["budgets"] = (*values["budgets"], default)
    return values
