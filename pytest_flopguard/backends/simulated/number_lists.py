"""Tensors that are made of lists with simulated tensors in them: torch reads those where nobody can step in."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from pytest_flopguard.backends.simulated import known_values
from pytest_flopguard.backends.simulated.value_reads import refuse
from pytest_flopguard.backends.torch_api.fake import FakeTensor
from pytest_flopguard.backends.torch_api.tensors import device_constructors

_real = {name: getattr(torch, name) for name in ("tensor", "as_tensor")}
# ``with torch.device(...)`` finds them by what they are when it is first asked: let that be now.
device_constructors()


def replacements() -> Iterator[tuple[Any, str, Any]]:
    """Yield what to replace: functions that make tensors of lists."""
    yield torch, "tensor", _tensor
    yield torch, "as_tensor", _as_tensor


def _tensor(data: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
    made: torch.Tensor = _real["tensor"](_known(data), *args, **kwargs)
    return made


def _as_tensor(data: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
    made: torch.Tensor = _real["as_tensor"](_known(data), *args, **kwargs)
    return made


def _known(data: Any) -> Any:
    """Put values in the places of simulated tensors in nested lists; types stay what they were."""
    if type(data) not in (list, tuple):
        return data
    return [_value(each) if isinstance(each, FakeTensor) else _known(each) for each in data]


def _value(tensor: FakeTensor) -> torch.Tensor:
    known = known_values.value(tensor)
    if known is None:
        raise refuse("a value")
    return known
