"""What to tell of ops without a formula: where they ran, and the lines that register one."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from keyword import iskeyword

from pytest_flopguard.core.measurement import UnknownOp

_OPEN, _CLOSED = "([{<", ")]}>"
_LETTERS = "abcdefghijklmnpqrstuvwxyz"


def unknown_op_lines(ops: Sequence[UnknownOp]) -> Iterator[str]:
    """Yield where each op ran and, for all of them, what to paste into ``conftest.py``."""
    names = list(dict.fromkeys(each.op for each in ops))
    for each in ops:
        module = each.module or "outside any module"
        yield f"  {each.op} x{each.calls:,} in {module} ({each.phase}): {each.reason}"
        yield f"      {each.call}"
    yield ""
    yield "Tell flopguard what they cost: paste into conftest.py and fill in"
    yield ""
    yield "    def pytest_flopguard_formulas(registry):"
    for index, name in enumerate(names):
        if index:
            yield ""
        yield from (f"        {line}" for line in _formula(next(each for each in ops if each.op == name)))
    yield ""
    yield "Or write there, in place of a formula:"
    yield ""
    for name in names:
        yield f'        registry.free("{name}")  # it moves, makes or renames data only'
        yield f'        registry.uncounted("{name}")  # its arithmetic is what the convention leaves out'
    yield ""
    yield 'Or let unknown ops warn everywhere: unknown-ops = "warn" under [tool.flopguard] in pyproject.toml'


def _formula(op: UnknownOp) -> Iterator[str]:
    name = re.sub(r"\W", "_", op.op.rpartition(".")[2]).strip("_") or "formula"
    name = f"{name}_" if iskeyword(name) or name[0].isdecimal() else name
    yield f'@registry.op("{op.op}")'
    yield f"def {name}({', '.join([*_parameters(op.call), 'out'])}):"
    yield '    """Derive it here."""'
    yield "    return ...            # FLOPs as an int; 1 multiply-add = 2"


def _parameters(call: str) -> list[str]:
    """Name the arguments of a rendered call: letters by position, keyword arguments by their own name."""
    arguments = _arguments(call)
    if arguments is None or len(arguments) > len(_LETTERS):
        return ["*args"]
    keywords = [match.group(1) for each in arguments if (match := re.match(r"([A-Za-z_]\w*)=", each))]
    positional = list(_LETTERS[: len(arguments) - len(keywords)])
    return [*positional, "*", *(each for each in keywords if each != "out")]


def _arguments(call: str) -> list[str] | None:
    """Split ``op(a[1, 2], b=3)`` at its outer commas; None where the text is no complete call."""
    match = re.fullmatch(r"[^()]*\((.*)\)", call, re.DOTALL)
    if match is None:
        return None
    found, depth, quote = [""], 0, ""
    for letter in match.group(1):
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            quote = letter
        elif letter in _OPEN:
            depth += 1
        elif letter in _CLOSED:
            depth -= 1
        elif letter == "," and depth == 0:
            found.append("")
            continue
        found[-1] += letter
    if depth or quote:
        return None
    return [each.strip() for each in found if each.strip()]
