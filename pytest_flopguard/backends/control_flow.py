"""Higher-order ops that torch keeps as one call: their functions run as torch runs them, with op calls seen inside."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch.utils._pytree import tree_any, tree_map

from pytest_flopguard.backends.constant_tensors import has_data, tensors
from pytest_flopguard.backends.torch_api.dispatch import DENSE, HigherOrderOperator, OpOverload, OpOverloadPacket
from pytest_flopguard.core.measurement import NO_FORMULA

# These call one op, which they are given, and nothing else.
_WRAPS_ONE_OP = {"out_dtype", "auto_functionalized", "auto_functionalized_v2", "with_effects"}
Watched = Callable[[], AbstractContextManager[None]]


class NotFollowed(Exception):
    """What the op will run is not known; the text says why."""


class _Heard:
    """A function of a higher-order op: while it runs, its op calls are seen. For all else it is the function."""

    def __init__(self, function: Callable[..., Any], watched: Watched) -> None:
        self._function = function
        self._watched = watched

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        with self._watched():
            return self._function(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._function, name)


def run_watched(op: HigherOrderOperator, args: tuple[Any, ...], kwargs: dict[str, Any], watched: Watched) -> Any:
    """Call a higher-order op and enter ``watched`` around its functions; NotFollowed where nothing would be seen."""
    if op.name() in _WRAPS_ONE_OP and DENSE in op.py_kernels:
        with watched():
            return op.py_kernels[DENSE](*args, **kwargs)
    if not tree_any(_is_function, (args, kwargs)):
        raise NotFollowed(NO_FORMULA)
    if not all(map(has_data, tensors(args))):
        raise NotFollowed("what it runs depends on values that are not here")
    args, kwargs = tree_map(lambda each: _Heard(each, watched) if _is_function(each) else each, (args, kwargs))
    return op(*args, **kwargs)


def _is_function(value: Any) -> bool:
    return callable(value) and not isinstance(value, (torch.Tensor, type, OpOverload, OpOverloadPacket))
