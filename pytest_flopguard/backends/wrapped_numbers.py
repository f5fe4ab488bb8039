"""Calls an op as it was called. torch hands a mode plain numbers where an op got a tensor that stands for a number.

It takes them back only for ops that a number can be an operand of. Programs of torch.jit.trace look at such tensors,
``aten::Int(%size)``, and would fail under any mode.
"""

from __future__ import annotations

from typing import Any

import torch

from pytest_flopguard.backends.torch_api.dispatch import schema_of

# Frames of this module lie between those of the user: pytest leaves them out of tracebacks.
__tracebackhide__ = True

_REFUSED = "Expected a value of type 'Tensor'"
_DTYPES = {bool: torch.bool, int: torch.int64, float: torch.float64, complex: torch.complex128}


def call(func: Any, args: Any, kwargs: Any) -> Any:
    """Call an op with what a mode was given."""
    try:
        return func(*args, **kwargs) if kwargs else func(*args)
    except RuntimeError as error:
        if _REFUSED not in str(error):
            raise
        given = [
            torch.scalar_tensor(value, dtype=_DTYPES[type(value)])
            if type(value) in _DTYPES and str(declared.type) == "Tensor"
            else value
            for declared, value in zip(schema_of(func).arguments, args, strict=False)
        ]
    return func(*given, **(kwargs or {}))
