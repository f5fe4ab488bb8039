"""Bytes that op calls move: each input read once, each output written once, whatever a kernel caches or reads again.

What only renames data moves nothing. Of a table that is looked up in, the rows that are taken are read; where rows are
written over, they alone are written, and read only to add to them. Views are read as they are stored. A template tells
its shape and is not read. Ops that allocate and do not fill write nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch

from pytest_flopguard.backends.constant_tensors import tensors
from pytest_flopguard.backends.partial_writes import partial_write
from pytest_flopguard.backends.stored_elements import NotTold, stored
from pytest_flopguard.backends.torch_api.tensors import address_of
from pytest_flopguard.core.measurement import Phase
from pytest_flopguard.core.traffic import ByteCount, ByteTally

# The tensor, or the weight, is a table, of which as much is read as comes out.
_LOOK_UPS = {"embedding", "gather", "index", "index_select", "take", "take_along_dim", "_unsafe_index"}
_BAGS = {"_embedding_bag", "_embedding_bag_forward_only"}
_SCATTERS = {"scatter", "scatter_add", "scatter_reduce"}
# What is written over need not be read.
_OVERWRITTEN = {"copy_", "fill_", "zero_"}
_OVERWRITTEN |= {f"{each}_" for each in ("bernoulli", "cauchy", "exponential", "geometric", "log_normal", "normal")}
_OVERWRITTEN |= {"random_", "uniform_"}

Place = tuple[str, Phase]
Amounts = tuple[int, int]
Given = Mapping[str, Any]


class TrafficMark(NamedTuple):
    """The sums, and the ops whose bytes are not known, at one moment."""

    sums: Mapping[Place, Amounts]
    untold: Mapping[str, int]


class _Op(NamedTuple):
    """What the schema of an op tells; ``name`` is empty for ops that are not torch's own."""

    name: str
    arguments: tuple[str, ...] = ()
    writes: frozenset[str] = frozenset()
    unread: frozenset[str] = frozenset()
    renames: bool = False


class Traffic:
    """Sums of bytes read and written, by module and phase."""

    def __init__(self) -> None:
        self._sums: dict[Place, Amounts] = {}
        self._untold: dict[str, int] = {}
        self._ops: dict[Any, _Op] = {}

    def clear(self) -> None:
        """Start anew."""
        self._sums.clear()
        self._untold.clear()

    def mark(self) -> TrafficMark:
        """Return the sums as they stand."""
        return TrafficMark(dict(self._sums), dict(self._untold))

    def since(self, mark: TrafficMark) -> ByteTally:
        """Return what was moved since a mark."""
        counts = []
        for (module, phase), (read, written) in self._sums.items():
            before = mark.sums.get((module, phase), (0, 0))
            if (read, written) != before:
                counts.append(ByteCount(module=module, phase=phase, read=read - before[0], written=written - before[1]))
        unknown = sorted(name for name, calls in self._untold.items() if calls > mark.untold.get(name, 0))
        return ByteTally(counts=tuple(counts), unknown=tuple(unknown))

    def saw(self, func: Any, args: Any, kwargs: Any, out: Any, place: Place) -> None:
        """Follow one op call that has just returned."""
        try:
            read, written = self._moved(func, args, kwargs or {}, out)
        except (NotTold, NotImplementedError, RuntimeError):  # torch's: sparse and opaque tensors have no one storage
            self._untold[str(func)] = self._untold.get(str(func), 0) + 1
            return
        if read or written:
            before = self._sums.get(place, (0, 0))
            self._sums[place] = (before[0] + read, before[1] + written)

    def _moved(self, func: Any, args: Any, kwargs: Any, out: Any) -> Amounts:
        op = self._ops.get(func)
        if op is None:
            op = self._ops[func] = _learn(func)
        given = {**dict(zip(op.arguments or map(str, range(len(args))), args, strict=False)), **kwargs}
        if "empty" in op.name or op.renames:
            return 0, 0
        storages = {address_of(each.untyped_storage()) for each in tensors(given.values())}
        results = list(tensors((out,)))
        written = {_where(each): each for each in results if address_of(each.untyped_storage()) not in storages}
        written |= {_where(each): each for each in tensors(given[name] for name in op.writes if name in given)}
        if results and not written:
            return 0, 0  # a view
        part = partial_write(op.name, given)
        limits = _limits(op.name, given, results)
        if part is not None:
            limits["self"] = part.elements if part.reads else 0
        read: dict[Any, int] = {}
        for name, value in given.items():
            for each in tensors((value,)) if name not in op.unread else ():
                # A tensor that is given twice is read once.
                where = _where(each)
                read[where] = max(read.get(where, 0), _bytes(each, limits.get(name)))
        wrote = sum(_bytes(each, None if part is None else part.elements) for each in written.values())
        return sum(read.values()), wrote


def _learn(func: Any) -> _Op:
    schema = getattr(func, "_schema", None)
    if schema is None:  # a higher-order op
        return _Op("")
    space, _, name = schema.name.partition("::")
    if space not in ("aten", "prims"):
        name = ""
    unread = {each.name for each in schema.arguments if each.is_out}
    if name.endswith("_like") or name.lstrip("_").startswith("new_"):
        unread |= {"self", "other"}  # templates
    if name.removeprefix("_foreach_") in _OVERWRITTEN:
        unread.add("self")
    return _Op(
        name,
        arguments=tuple(each.name for each in schema.arguments),
        writes=frozenset(each.name for each in schema.arguments if each.alias_info and each.alias_info.is_write),
        unread=frozenset(unread),
        renames=name == "set_" or torch.Tag.inplace_view in func.tags,
    )


def _limits(name: str, given: Given, results: list[torch.Tensor]) -> dict[str, int]:
    """Return the most elements that are read of an argument, by its name."""
    if name in _LOOK_UPS:
        taken = sum(each.numel() for each in results)
        return {"self": taken, "weight": taken}
    if name in _BAGS:
        return {"weight": given["indices"].numel() * given["weight"].shape[-1]}
    if name.removesuffix("_") in _SCATTERS:
        return {"src": given["index"].numel()}
    return {}


def _where(tensor: torch.Tensor) -> tuple[Any, ...]:
    return address_of(tensor.untyped_storage()), tensor.storage_offset(), tuple(tensor.shape), tensor.stride()


def _bytes(tensor: torch.Tensor, limit: int | None = None) -> int:
    elements = stored(tensor)
    return (elements if limit is None else min(elements, limit)) * tensor.element_size()
