"""What to tell of ops without a formula: where they ran, and the lines that register one."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from keyword import iskeyword

from pytest_flopguard.core.expectation import Origin
from pytest_flopguard.core.measurement import NO_FORMULA, UnknownOp
from pytest_flopguard.reporters.module_costs import folded

_OPEN, _CLOSED = "([{<", ")]}>"
_LETTERS = "abcdefghijklmnpqrstuvwxyz"


def unknown_op_lines(ops: Sequence[UnknownOp], undecided: Sequence[Origin]) -> Iterator[str]:
    """Yield where each op ran and, for those that a formula cures, what to paste into ``conftest.py``.

    ``undecided`` are the FLOP limits that the ops leave open, which would have to warn as well.
    """
    yield from place_lines(ops)
    curable = {each.op: each for each in reversed(ops) if each.reason == NO_FORMULA}
    if curable:
        yield ""
        yield "Tell flopguard what they cost: paste into conftest.py and fill in"
        yield ""
        yield "    def pytest_flopguard_formulas(registry):"
        for index, each in enumerate(reversed(curable.values())):
            yield from [""] * (index > 0)
            yield from (f"        {line}" for line in _formula(each))
        yield ""
        yield "Or write there, in place of a formula:"
        yield ""
        for name in reversed(curable):
            yield f'        registry.free("{name}")  # it moves, makes or renames data only'
            yield f'        registry.uncounted("{name}")  # its arithmetic is what the convention leaves out'
    yield ""
    yield 'Or let unknown ops warn everywhere: unknown-ops = "warn" under [tool.flopguard] in pyproject.toml'
    for origin in undecided:
        yield f'  and so must the limit that they leave open: severity = "warn" at {origin}'


def place_lines(ops: Sequence[UnknownOp]) -> Iterator[str]:
    """Yield each op and call once, with the modules that made it, repeated layers folded."""
    places: dict[tuple[str, str, str], dict[str, int]] = {}
    for each in ops:
        modules = places.setdefault((each.op, each.call, each.reason), {})
        modules[each.module] = modules.get(each.module, 0) + each.calls
    for (op, call, reason), modules in places.items():
        yield f"  {op} x{sum(modules.values()):,}: {reason}"
        yield f"      {call}"
        yield f"      in {', '.join(each.path for each in folded(modules))}"


def _formula(op: UnknownOp) -> Iterator[str]:
    name = re.sub(r"\W", "_", op.op.rpartition(".")[2]).strip("_") or "formula"
    name = f"{name}_" if iskeyword(name) else f"_{name}" if name[0].isdigit() else name
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
    # A tensor written to by out= is no operand; ``out`` is what the call returned.
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
