"""Values of tensors without data that follow from no input: a causal mask made of aranges, also on the meta device."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils.weak import WeakIdKeyDictionary

from pytest_flopguard.backends.torch_api.dispatch import OpOverload, disable_current_modes, schema_of
from pytest_flopguard.backends.torch_api.fake import FakeTensor, unset_fake_temporarily
from pytest_flopguard.backends.torch_api.tensors import address_of

# Larger ones would cost more than the run that is watched; a square of 16,384 positions still fits.
_MOST_ELEMENTS = 2**28
# What an op writes over need not be known before.
_OVERWRITES = {"fill_", "zero_", "copy_"}


def has_data(tensor: torch.Tensor) -> bool:
    """Whether values can be read: false for tensors on the meta device and for fake ones."""
    return not tensor.is_meta and not isinstance(tensor, FakeTensor)


@contextmanager
def reading_values() -> Iterator[None]:
    """Compute with values in the block, whatever modes the watched code runs under, and unseen by them."""
    with disable_current_modes(), unset_fake_temporarily(), torch.no_grad():
        yield


class ConstantTensors:
    """Does op calls on tensors without data a second time, on the CPU, where every input is known."""

    def __init__(self) -> None:
        self._values: WeakIdKeyDictionary = WeakIdKeyDictionary()

    def value(self, tensor: torch.Tensor) -> torch.Tensor | None:
        """Return a tensor with the same values and with data, None where there is none."""
        return tensor if has_data(tensor) else self._values.get(tensor)

    def saw(self, func: Any, args: Any, kwargs: Any, out: Any) -> None:
        """Follow one op call that has just returned."""
        if not isinstance(out, torch.Tensor) or has_data(out):
            self.forget_written(func, args, kwargs)
            return
        name = schema_of(func).name.partition("::")[2] if isinstance(func, OpOverload) else ""
        if name in _OVERWRITES and self.value(out) is None and out.numel() <= _MOST_ELEMENTS:
            with reading_values():
                self._values[out] = torch.empty(out.shape, dtype=out.dtype)
        inputs = list(tensors((*args, *(kwargs or {}).values())))
        known = name and "empty" not in name and name != "resize_"
        known = known and all(self.value(each) is not None for each in inputs)
        if not known or torch.Tag.nondeterministic_seeded in func.tags or out.numel() > _MOST_ELEMENTS:
            self.forget_written(func, args, kwargs)
            return
        with reading_values():
            result = func(
                *self._known(args), **{name: self._on_cpu(name, each) for name, each in (kwargs or {}).items()}
            )
        if isinstance(result, torch.Tensor):
            self._values[out] = result

    def forget_written(self, func: Any, args: Any, kwargs: Any) -> None:
        """Forget what a call has written to, and views of it."""
        if not self._values:
            return
        storages = {address_of(each.untyped_storage()) for each in written(func, args, kwargs) if not has_data(each)}
        if storages:
            for each in list(self._values):
                if address_of(each.untyped_storage()) in storages:
                    del self._values[each]

    def _known(self, values: Iterable[Any]) -> tuple[Any, ...]:
        return tuple(
            self.value(each)
            if isinstance(each, torch.Tensor)
            else self._known(each)
            if isinstance(each, (list, tuple))
            else torch.device("cpu")
            if isinstance(each, torch.device)
            else each
            for each in values
        )

    def _on_cpu(self, name: str, value: Any) -> Any:
        return torch.device("cpu") if name == "device" and value is not None else self._known((value,))[0]


def written(func: Any, args: Any, kwargs: Any) -> Iterator[torch.Tensor]:
    """Yield the tensors among the arguments that an op writes to."""
    if not isinstance(func, OpOverload) or not schema_of(func).is_mutable:
        return
    given = kwargs or {}
    for at, each in enumerate(schema_of(func).arguments):
        if each.alias_info is not None and each.alias_info.is_write:
            yield from tensors((args[at] if at < len(args) else given.get(each.name),))


def tensors(values: Iterable[Any]) -> Iterator[torch.Tensor]:
    """Yield the tensors in nested lists and tuples."""
    for value in values:
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from tensors(value)
