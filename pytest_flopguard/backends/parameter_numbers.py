"""Numbers by which parameters are told apart, also after the models that had them are gone."""

from __future__ import annotations

from itertools import count
from weakref import ref

import torch


class ParameterNumbers:
    """Gives a parameter the same number as long as it lives, and no other one that number ever after.

    An address is not enough, since another parameter may get it later. A weak reference to the parameter would keep
    ``torch.utils.swap_tensors`` from working, which ``Module.to`` uses for some; its storage lives as long.
    """

    def __init__(self) -> None:
        self._numbers: dict[int, tuple[ref[torch.UntypedStorage] | None, int]] = {}
        self._next = count()

    def __call__(self, parameter: torch.Tensor) -> int:
        """Return the number of a parameter."""
        try:
            storage: torch.UntypedStorage | None = parameter.untyped_storage()
        except NotImplementedError:  # sparse and other layouts keep their data in several tensors
            storage = None
        known = self._numbers.get(id(parameter))
        if known is not None and (known[0]() if known[0] else None) is storage:
            return known[1]
        number = next(self._next)
        self._numbers[id(parameter)] = (None if storage is None else ref(storage), number)
        return number
