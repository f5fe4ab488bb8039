"""Bytes that op calls move: each input read once, each output written once, whatever a kernel caches or reads again.

What only renames data moves nothing. Of a table that is looked up in, the rows that are taken are read; a tensor that
was expanded is read as it is stored. Ops that allocate and do not fill write nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from pytest_flopguard.backends.constant_tensors import tensors
from pytest_flopguard.core.measurement import Phase
from pytest_flopguard.core.traffic import ByteCount, ByteTally

# The first tensor is a table, of which as much is read as comes out.
_LOOK_UPS = {"embedding", "gather", "index", "index_select", "take", "take_along_dim", "_unsafe_index"}
# The first tensor is written where the last one says, and nowhere else.
_PARTLY_WRITTEN = {"index_put_", "_index_put_impl_", "index_copy_", "index_add_", "scatter_", "scatter_add_"}
# What is written over need not be read.
_OVERWRITTEN = {"copy_", "fill_", "zero_", "normal_", "uniform_", "random_", "bernoulli_", "exponential_", "set_"}

Place = tuple[str, Phase]
Amounts = tuple[int, int]


class Traffic:
    """Sums of bytes read and written, by module and phase."""

    def __init__(self) -> None:
        self._sums: dict[Place, Amounts] = {}
        self._opaque: set[str] = set()
        self._writes: dict[Any, frozenset[int | str]] = {}

    def clear(self) -> None:
        """Start anew."""
        self._sums.clear()
        self._opaque.clear()

    def mark(self) -> dict[Place, Amounts]:
        """Return the sums as they stand."""
        return dict(self._sums)

    def since(self, mark: dict[Place, Amounts]) -> ByteTally:
        """Return what was moved since a mark."""
        counts = []
        for (module, phase), (read, written) in self._sums.items():
            before = mark.get((module, phase), (0, 0))
            if (read, written) != before:
                counts.append(ByteCount(module=module, phase=phase, read=read - before[0], written=written - before[1]))
        return ByteTally(counts=tuple(counts), unknown=tuple(sorted(self._opaque)))

    def saw(self, func: Any, args: Any, kwargs: Any, out: Any, place: Place) -> None:
        """Follow one op call that has just returned."""
        try:
            read, written = self._moved(func, args, kwargs or {}, out)
        except (NotImplementedError, RuntimeError):  # sparse, nested and opaque tensors have no one storage
            self._opaque.add(str(func))
            return
        if read or written:
            before = self._sums.get(place, (0, 0))
            self._sums[place] = (before[0] + read, before[1] + written)

    def _moved(self, func: Any, args: Any, kwargs: Any, out: Any) -> Amounts:
        name = str(func).split(".")[1] if isinstance(func, torch._ops.OpOverload) else str(func)
        inputs = {_where(each): each for each in tensors((*args, *kwargs.values()))}
        storages = {each.untyped_storage()._cdata for each in inputs.values()}
        made = [each for each in tensors((out,)) if each.untyped_storage()._cdata not in storages]
        if "empty" in name:
            return 0, 0
        changed = {_where(each): each for each in self._changed(func, args, kwargs)}
        if not made and not changed and any(True for _ in tensors((out,))):
            return 0, 0  # a view
        written = sum(_bytes(each) for each in (*made, *changed.values()))
        read = sum(_bytes(each) for where, each in inputs.items() if where not in changed or name not in _OVERWRITTEN)
        read -= sum(_bytes(each) for each in tensors(kwargs.get(key) for key in ("out",)))
        first = next(iter(inputs.values()), None)
        if name in _LOOK_UPS and first is not None:
            taken = sum(_bytes(each) for each in made)
            read -= max(0, _bytes(first) - taken)
        elif name in _PARTLY_WRITTEN and first is not None:
            *_, source = inputs.values()
            spared = max(0, _bytes(first) - _bytes(source))
            read, written = read - spared, written - spared
        return read, written

    def _changed(self, func: Any, args: Any, kwargs: Any) -> Iterable[torch.Tensor]:
        """Return the tensors among the arguments that the op writes to."""
        places = self._writes.get(func)
        if places is None:
            schema = getattr(func, "_schema", None)
            known = (
                []
                if schema is None
                else [
                    (at, each)
                    for at, each in enumerate(schema.arguments)
                    if each.alias_info and each.alias_info.is_write
                ]
            )
            places = self._writes[func] = frozenset(key for at, each in known for key in (at, each.name))
        given = [*enumerate(args), *kwargs.items()]
        return tensors(value for key, value in given if key in places)


def _where(tensor: torch.Tensor) -> tuple[Any, ...]:
    # A tensor that is given twice is read once.
    return tensor.untyped_storage()._cdata, tensor.storage_offset(), tuple(tensor.shape), tensor.stride()


def _bytes(tensor: torch.Tensor) -> int:
    elements = 1
    for size, stride in zip(tensor.shape, tensor.stride(), strict=True):
        if stride or not size:
            elements *= size
    return elements * tensor.element_size()
