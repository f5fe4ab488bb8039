"""Which formula, or which class of work, belongs to an op. Duplicates are refused; nothing here is global."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any, TypeVar

from pytest_flopguard.core.errors import FormulaError, message
from pytest_flopguard.core.measurement import NO_FORMULA, Attention, Cost, Kind, OpCall

Formula = Callable[..., "int | Cost | None"]
F = TypeVar("F", bound=Formula)

# Traits of an op's tags and schema that settle its class without a list. An op from outside torch is a "query" only if
# no tensor goes in and none comes out, and never "factory" or "random": one that makes a tensor may do any work.
_FREE_TRAITS = frozenset({"view", "view_copy", "inplace_view", "factory", "query", "random"})
_UNCOUNTED_TRAITS = frozenset({"pointwise", "reduction"})

# How op calls are named: no overload, and a mark where a formula is for sparse operands.
_OP = re.compile(r"[A-Za-z_]\w*\.[A-Za-z_]\w*(\[sparse\])?")
# How else people write them: torch.ops.mylib.zz, mylib::zz.out
_OTHER_SPELLING = re.compile(r"\s*(?:torch\.ops\.)?(?!torch\.ops\.)([A-Za-z_]\w*)(?:::|\.)([A-Za-z_]\w*)(?:\.\w+)?\s*")


class Unknown(Exception):
    """Raised by a formula that cannot tell the FLOPs of this call; its text is the reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One row of the registry: an op, its kind, its description, and where that was registered.

    ``reads`` are the arguments whose values the formula uses.
    """

    op: str
    kind: Kind
    summary: str
    source: str
    formula: Formula | None = None
    reads: frozenset[str] = frozenset()


class Registry:
    """Op formulas and the lists of free and uncounted ops; the CostModel that backends are given.

    Formulas tell both conventions of attention; ``attention`` is the one that was chosen.
    """

    def __init__(self, attention: Attention = "dense") -> None:
        self.attention: Attention = attention
        self._entries: dict[str, Entry] = {}

    def op(self, *names: str, reads: Iterable[str] = ()) -> Callable[[F], F]:
        """Register the decorated function as the formula of the named ops.

        It gets the op's arguments in schema order, TensorSpecs for tensors; ``out``, what the call returned, and
        ``call``, the whole OpCall, if it has parameters of these names. It returns FLOPs as an int (1 multiply-add
        = 2) or a Cost, or raises Unknown with a reason. FormulaError where a name is not like ``mylib.zz``.

        ``reads`` are names of arguments that hold whole numbers which decide the work, such as sequence lengths: their
        TensorSpecs have ``values``, except where no values exist.
        """
        _check("op", names)

        def register(formula: F) -> F:
            summary = (inspect.getdoc(formula) or "").partition("\n")[0]
            for name in names:
                self._add(
                    Entry(
                        op=name,
                        kind="counted",
                        summary=summary,
                        source=_name(formula),
                        formula=formula,
                        reads=frozenset(reads),
                    )
                )
            return formula

        return register

    def free(self, *names: str, source: str = "") -> None:
        """Register ops that move, make or rename data and do no arithmetic on it."""
        _check("free", names)
        self._add_all(names, "free", "moves, makes or renames data", source)

    def uncounted(self, *names: str, source: str = "") -> None:
        """Register ops whose arithmetic the convention leaves out (elementwise, normalisation, softmax, pooling)."""
        _check("uncounted", names)
        self._add_all(names, "uncounted", "arithmetic that the convention leaves out", source)

    def include(self, room: ModuleType) -> None:
        """Register a module's formulas (functions marked by ``formula``) and its ``FREE`` and ``UNCOUNTED`` names."""
        for value in vars(room).values():
            if names := getattr(value, "flopguard_ops", ()):
                self.op(*names, reads=value.flopguard_reads)(value)
        for register, names in ((self.free, "FREE"), (self.uncounted, "UNCOUNTED")):
            if listed := getattr(room, names, ()):
                register(*listed, source=room.__name__)

    def entries(self) -> Iterator[Entry]:
        """All rows, sorted by op."""
        for name in sorted(self._entries):
            yield self._entries[name]

    def kind(self, op: str, traits: frozenset[str]) -> Kind:
        """Classify an op by its own row, its out-of-place twin's row, or its traits; else it is unknown."""
        entry = self._find(op)
        if entry is not None:
            return entry.kind
        if traits & _FREE_TRAITS:
            return "free"
        if traits & _UNCOUNTED_TRAITS:
            return "uncounted"
        return "unknown"

    def reads(self, op: str) -> frozenset[str]:
        """Return the names of an op's arguments whose values its formula uses."""
        entry = self._find(op)
        return frozenset() if entry is None else entry.reads

    def cost(self, call: OpCall) -> Cost:
        """Cost one call through its formula; FormulaError if that formula is wrong in itself."""
        entry = self._find(call.op)
        if entry is None:
            return Cost(kind="unknown", flops=None, reason=NO_FORMULA)
        if entry.formula is None:
            return Cost(kind=entry.kind)
        return _evaluate(entry.formula, call)

    def _find(self, op: str) -> Entry | None:
        # aten.addmm_ does the work of aten.addmm.
        return self._entries.get(op) or (self._entries.get(op[:-1]) if op.endswith("_") else None)

    def _add_all(self, names: tuple[str, ...], kind: Kind, summary: str, source: str) -> None:
        source = source or _caller(depth=3)
        for name in names:
            self._add(Entry(op=name, kind=kind, summary=summary, source=source))

    def _add(self, entry: Entry) -> None:
        first = self._entries.get(entry.op)
        if first is not None:
            raise FormulaError(message("duplicate-formula", op=entry.op, first=first.source, second=entry.source))
        self._entries[entry.op] = entry


def formula(*names: str, reads: Iterable[str] = ()) -> Callable[[F], F]:
    """Mark a function as the formula of ops, for ``Registry.include``; registers nothing by itself."""

    def mark(function: F) -> F:
        function.flopguard_ops = names  # type: ignore[attr-defined]
        function.flopguard_reads = tuple(reads)  # type: ignore[attr-defined]
        return function

    return mark


def default_registry(attention: Attention = "dense") -> Registry:
    """Return a new registry with the built-in formulas and lists."""
    from pytest_flopguard.formulas.ops import BUILT_IN  # the ops import this module's decorator

    registry = Registry(attention)
    for room in BUILT_IN:
        registry.include(room)
    return registry


def _check(way: str, names: tuple[object, ...]) -> None:
    if not names:
        raise FormulaError(message("op-name", way=way, value="no name", example="mylib.zz"))
    for name in names:
        if not isinstance(name, str) or not _OP.fullmatch(name):
            raise FormulaError(message("op-name", way=way, value=repr(name), example=_example(name)))


def _example(name: object) -> str:
    # An op itself prints as its name.
    text = str(name)
    if meant := _OTHER_SPELLING.fullmatch(text):
        return ".".join(meant.groups())
    return f"mylib.{text}" if text.isidentifier() and isinstance(name, str) else "mylib.zz"


def _evaluate(formula: Formula, call: OpCall) -> Cost:
    signature = inspect.signature(formula)
    kwargs: dict[str, Any] = dict(call.kwargs)
    try:
        # Some ops have an argument of that name themselves.
        wanted = signature.parameters.keys() - signature.bind_partial(*call.args, **kwargs).arguments.keys()
        kwargs |= {name: value for name, value in (("out", call.out), ("call", call)) if name in wanted}
        bound = signature.bind(*call.args, **kwargs)
    except TypeError as error:
        text = ", ".join([*map(str, call.args), *(f"{name}={value}" for name, value in call.kwargs.items())])
        raise FormulaError(
            message("formula-signature", formula=_name(formula), signature=signature, op=call.op, call=text)
        ) from error
    try:
        value = formula(*bound.args, **bound.kwargs)
    except Unknown as reason:
        return Cost(kind="unknown", flops=None, reason=str(reason))
    except Exception as error:
        # Users' formulas may raise anything; the text must name whose it was.
        text = f"{type(error).__name__}: {error}"
        raise FormulaError(message("formula-raised", formula=_name(formula), op=call.op, error=text)) from error
    cost = value if isinstance(value, Cost) else Cost(kind="counted", flops=value)
    amounts = (cost.flops, cost.kernel_recompute, cost.masked_flops)
    wrong = cost.kind != "counted" or any(type(each) is not int or each < 0 for each in amounts)
    if wrong or cost.masked_flops > (cost.flops or 0):
        raise FormulaError(message("formula-result", formula=_name(formula), op=call.op, value=value))
    return cost


def _name(formula: Formula) -> str:
    # A partial or a callable object has no name of its own.
    return f"{formula.__module__}.{getattr(formula, '__qualname__', repr(formula))}"


def _caller(depth: int) -> str:
    frame = sys._getframe(depth)
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"
