"""Notes what each outermost module is called with, so that a changed workload is told from a dearer model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

from pytest_flopguard.backends.model_calls import ModelCalls
from pytest_flopguard.backends.torch_api.modules import keywords_of_call, unwrapped
from pytest_flopguard.core.workload import Size, WorkloadCall

_NESTED = 3  # how deep inside containers tensors are looked for


class WorkloadCalls:
    """The calls so far, in order; calls inside a module, and those that backward makes again, are not among them."""

    def __init__(self) -> None:
        self.seen: list[WorkloadCall] = []
        self._configs: dict[int, dict[str, Size]] = {}

    def note(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        """Describe the call that is about to run; called from a forward pre-hook."""
        module = unwrapped(module)
        keywords = keywords_of_call()
        told = [
            *_tensors(args),
            *(f"{name}={text}" for name, value in sorted((keywords or {}).items()) for text in _tensors(value)),
            *(["keywords that cannot be read with this release of torch"] if keywords is None else []),
        ]
        self.seen.append(WorkloadCall(model=type(module).__name__, inputs=", ".join(told), config=self._config(module)))

    def _config(self, module: nn.Module) -> Mapping[str, Size]:
        if not ModelCalls.has_config(module):
            return {}
        config: Any = module.config
        # A loop over tokens calls one model thousands of times; its config is written out once.
        if id(config) not in self._configs:
            self._configs[id(config)] = dict(_sizes(config.to_dict()))
        return self._configs[id(config)]


def _tensors(value: Any, depth: int = _NESTED) -> Iterator[str]:
    """Yield ``float32[16, 8]`` for each tensor in a value."""
    if isinstance(value, torch.Tensor):
        yield f"{str(value.dtype).removeprefix('torch.')}[{_shape(value)}]"
    elif depth and isinstance(value, Mapping):
        for inner in value.values():
            yield from _tensors(inner, depth - 1)
    elif depth and isinstance(value, (tuple, list)):
        for inner in value:
            yield from _tensors(inner, depth - 1)


def _shape(tensor: torch.Tensor) -> str:
    try:
        return ", ".join(map(str, tensor.shape))
    except RuntimeError:  # a nested tensor's shape is not one shape
        return "nested"


def _sizes(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Size]]:
    """Yield the whole numbers of a config; the ids of special tokens size nothing."""
    for name, value in config.items():
        if name.endswith(("token_id", "token_index")):
            continue
        if type(value) is int:
            yield f"{prefix}{name}", value
        elif isinstance(value, (list, tuple)) and value and all(type(each) is int for each in value):
            yield f"{prefix}{name}", tuple(value)
        elif isinstance(value, Mapping) and "model_type" in value:
            yield from _sizes(value, f"{prefix}{name}.")  # a part's own config, such as a vision tower's
