"""Goes through the graph of a torch.jit.trace once more on tensors without data, so that a watch sees its op calls."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import zip_longest
from typing import Any

import torch

from pytest_flopguard.backends.torch_api.dispatch import OpOverload, schema_of
from pytest_flopguard.backends.torch_api.jit import inline, parse_schema

Note = Callable[[str, str, str], None]
Kind = Callable[[OpOverload], str]
NO_ROUTE = "the graph does not show with what shapes it was called"
_LAYOUTS = {"aten::to_mkldnn", "aten::to_dense"}  # of the same shape, and no op of meta tensors
# What a call on tensors without data, or with a value that is not known, ends in.
_NOT_CALLED = (RuntimeError, TypeError, ValueError, IndexError, KeyError, AttributeError, NotImplementedError)


class TracedGraph:
    """A graph of the tracer or of the interpreter, whose nodes are called in order on tensors without data.

    ``hear`` is entered around each call that is to be seen, ``kind`` classifies an op, and ``note`` is called for each
    node that cannot be called again. With ``hidden``, only nodes of these kinds are to be seen.
    """

    def __init__(
        self,
        graph: Any,
        hear: Callable[[], AbstractContextManager[None]],
        kind: Kind,
        note: Note,
        hidden: frozenset[str] | None = None,
    ) -> None:
        self._graph = graph.copy()
        inline(self._graph)
        self._hear = hear
        self._kind = kind
        self._note = note
        self._hidden = hidden
        self._values: dict[int, Any] = {}

    def run(self, given: Sequence[Any]) -> None:
        """Call each op of the graph; ``given`` are the first inputs, others are of the shapes that were recorded."""
        for value, known in zip_longest(self._graph.inputs(), given):
            self._values[value.unique()] = self._recorded(value) if known is None else _without_data(known)
        with torch.no_grad():
            for node in self._graph.nodes():
                self._step(node)

    def _step(self, node: Any) -> None:
        kind = node.kind()
        handler = getattr(self, f"_{kind[6:].lower()}", None) if kind.startswith("prim::") else None
        if handler is not None:
            handler(node)
        elif kind in _LAYOUTS:
            self._same(node)
        elif kind.startswith("prim::"):
            self._lose(node)
        else:
            self._call(node, _overload(node))

    def _lose(self, node: Any) -> None:
        name = node.kind().replace("::", ".")
        if self._hidden is None or node.kind() in self._hidden:
            self._note(name, f"{name} in the graph of a scripted or traced program", NO_ROUTE)
        for each in node.outputs():
            self._values[each.unique()] = self._recorded(each)

    def _call(self, node: Any, op: Any, extra: tuple[Any, ...] | None = None) -> None:
        outputs = [self._recorded(each) for each in node.outputs()]
        seen = self._hear if self._hidden is None or node.kind() in self._hidden else nullcontext
        try:
            given = [self._values[each.unique()] for each in node.inputs()] if extra is None else list(extra)
            args, kwargs = _by_keyword(op, given)
            with seen():
                found = op(*args, **kwargs)
        except _NOT_CALLED:
            if not isinstance(op, OpOverload) or self._kind(op) not in ("free", "uncounted"):
                self._lose(node)
                return
            found = None
        results = found if isinstance(found, (tuple, list)) and len(outputs) > 1 else [found] * len(outputs)
        for value, recorded, result in zip(node.outputs(), outputs, results, strict=False):
            kept = recorded is None or (
                isinstance(result, torch.Tensor) and result.device.type == "cpu" and not result.ndim
            )
            self._values[value.unique()] = result if kept else recorded

    def _recorded(self, value: Any) -> torch.Tensor | None:
        kind = value.type()
        if kind.kind() != "TensorType" or kind.sizes() is None or kind.dtype() is None:
            return None
        strides = kind.strides()
        if strides is None:
            return torch.empty(kind.sizes(), dtype=kind.dtype(), device="meta")
        return torch.empty_strided(kind.sizes(), strides, dtype=kind.dtype(), device="meta")

    def _store(self, node: Any, value: Any) -> None:
        for each in node.outputs():
            self._values[each.unique()] = value

    def _same(self, node: Any) -> None:
        self._store(node, self._values[next(iter(node.inputs())).unique()])

    # Copies of a value in oneDNN's layout, and elementwise work in it.
    _mkldnnrelu6 = _mkldnnrelu6_ = _mkldnnhardswish = _mkldnnhardswish_ = _mkldnnhardsigmoid = _same
    _mkldnnhardsigmoid_ = _mkldnnhardtanh = _mkldnnhardtanh_ = _mkldnnclamp = _mkldnnlayernorm = _same
    _mkldnnlayernorm_ = _mkldnnscalarmul = _mkldnnscalarmul_ = _profile_ivalue = _unchecked_cast = _same

    def _profile(self, node: Any) -> None:
        if list(node.inputs()):
            self._same(node)

    def _constant(self, node: Any) -> None:
        self._store(node, _without_data(node.output().toIValue()))

    def _constantmkldnntensor(self, node: Any) -> None:
        self._store(node, _without_data(node.t("value")))

    def _broadcastmkldnntensors(self, node: Any) -> None:
        both = torch.broadcast_tensors(*(self._values[each.unique()] for each in node.inputs()))
        for each, value in zip(node.outputs(), both, strict=True):
            self._values[each.unique()] = value

    def _mkldnn_convolution(self, node: Any) -> None:
        image, weight, bias, stride, padding, dilation, groups = (
            self._values.get(each.unique()) for each in node.inputs()
        )
        plain = [0] * len(stride or ())
        extra = (image, weight, bias, stride, padding, dilation, False, plain, groups)
        self._call(node, torch.ops.aten.convolution.default, extra)

    def _getattr(self, node: Any) -> None:
        owner = self._values[node.input().unique()]
        self._store(node, _without_data(owner.getattr(node.s("name"))) if owner is not None else None)

    def _listconstruct(self, node: Any) -> None:
        self._store(node, [self._values[each.unique()] for each in node.inputs()])

    def _tupleconstruct(self, node: Any) -> None:
        self._store(node, tuple(self._values[each.unique()] for each in node.inputs()))

    def _dictconstruct(self, node: Any) -> None:
        flat = [self._values[each.unique()] for each in node.inputs()]
        self._store(node, dict(zip(flat[::2], flat[1::2], strict=True)))

    def _listunpack(self, node: Any) -> None:
        whole = self._values[node.input().unique()]
        outputs = list(node.outputs())
        parts = whole if isinstance(whole, (list, tuple)) else [self._recorded(each) for each in outputs]
        for each, part in zip(outputs, parts, strict=False):
            self._values[each.unique()] = part

    _tupleunpack = _listunpack

    def _numtotensor(self, node: Any) -> None:
        value = self._values[node.input().unique()]
        self._store(node, None if value is None else torch.tensor(value))

    def _implicittensortonum(self, node: Any) -> None:
        value = self._values[node.input().unique()]
        self._store(node, value.item() if isinstance(value, torch.Tensor) and value.device.type == "cpu" else None)


def _without_data(value: Any) -> Any:
    if isinstance(value, torch.Tensor) and (value.ndim or value.device.type != "cpu"):
        return torch.empty(value.shape, dtype=value.dtype, device="meta")
    return value


def _by_keyword(op: Any, given: list[Any]) -> tuple[list[Any], dict[str, Any]]:
    """Part what a graph lists one after the other into arguments by position and by keyword."""
    declared = schema_of(op).arguments if isinstance(op, OpOverload) else ()
    named = {each.name: value for each, value in zip(declared, given, strict=False) if each.kwarg_only}
    return given[: len(given) - len(named)], named


def _overload(node: Any) -> Any:
    """Return what a node calls: an op of the dispatcher, or one of the interpreter's own."""
    schema = parse_schema(node.schema())
    space, _, name = schema.name.partition("::")
    packet = getattr(getattr(torch.ops, space), name)
    return getattr(packet, schema.overload_name or "default")
