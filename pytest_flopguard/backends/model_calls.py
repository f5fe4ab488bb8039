"""Notes each outermost call of a module that has a config, with the facts that a closed form needs."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from pytest_flopguard.backends.call_specs import specs
from pytest_flopguard.backends.torch_api.modules import keywords_of_call, unwrapped
from pytest_flopguard.backends.transformers_api import (
    attention_kernel,
    cache_of,
    checkpointing_of,
    config_of,
    hides_none,
    model_class,
)
from pytest_flopguard.core.model_arguments import DECODER_TOKENS, MASK, TOKENS
from pytest_flopguard.core.model_call import ModelCall
from pytest_flopguard.core.tensors import TensorSpec

_NO_KEYWORDS = "its keyword arguments cannot be read with this release of torch"
_NESTED = 3  # how deep inside containers arguments are described


class ModelCalls:
    """The calls so far, in order. Modules inside a noted one are not noted again."""

    def __init__(self) -> None:
        self.seen: list[ModelCall] = []

    def _config(self, model: Any) -> Mapping[str, Any]:
        # Generation calls one model thousands of times; one copy of its config is enough.
        config: dict[str, Any] = model.config.to_dict()
        return self.seen[-1].config if self.seen and self.seen[-1].config == config else config

    @staticmethod
    def has_config(module: nn.Module) -> bool:
        """Whether a module has a config that names a model type."""
        return config_of(unwrapped(module)) is not None

    def note(self, module: nn.Module, args: tuple[Any, ...], path: str) -> None:
        """Describe the call that is about to run; called from a forward pre-hook."""
        module = unwrapped(module)
        keywords = keywords_of_call()
        given = _bound(module, args, keywords or {})
        model: Any = module
        length = _new_tokens(given)
        cache = cache_of(given, length)
        checkpointing = checkpointing_of(module)
        parameters = list(module.named_parameters())
        self.seen.append(
            ModelCall(
                model=model_class(module),
                path=path,
                config=self._config(model),
                inputs={name: _plain(value) for name, value in given.items() if name not in cache.arguments},
                children=tuple(name for name, _ in module.named_children()),
                past=cache.past,
                keys=cache.keys,
                cross_cached=cache.cross_cached,
                problem=cache.problem or checkpointing.problem or ("" if keywords is not None else _NO_KEYWORDS),
                kernel=attention_kernel(model.config),
                unpadded=hides_none(given.get(MASK), length),
                training=module.training,
                grad=torch.is_grad_enabled() and any(each.requires_grad for _, each in parameters),
                wants_gradient=frozenset(name for name, value in given.items() if _wants_gradient(value)),
                checkpointing=checkpointing.again,
                checkpointed=checkpointing.layers,
                frozen=tuple(name for name, each in parameters if not each.requires_grad),
            )
        )


def _wants_gradient(value: Any) -> bool:
    # The output of an encoder is a tuple, or a mapping in the order of its fields, with the hidden states first.
    if isinstance(value, Mapping):
        value = tuple(value.values())
    if isinstance(value, (tuple, list)) and value:
        value = value[0]
    return isinstance(value, torch.Tensor) and value.requires_grad


def _bound(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments by name; those that the signature does not take are the module's own to refuse."""
    signature = inspect.signature(module.forward)
    # A decorator may take more keywords than the signature names, such as an argument's former name.
    named = {name: value for name, value in kwargs.items() if name in signature.parameters}
    try:
        bound = signature.bind_partial(*args, **named).arguments
    except TypeError:
        return kwargs
    return bound | kwargs


def _plain(value: Any, depth: int = _NESTED) -> Any:
    if isinstance(value, torch.Tensor):
        return specs(value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if depth and isinstance(value, Mapping):
        return {str(key): _plain(inner, depth - 1) for key, inner in value.items()}
    if depth and isinstance(value, (tuple, list)):
        return tuple(_plain(inner, depth - 1) for inner in value)
    return type(value).__name__


def _new_tokens(given: Mapping[str, Any]) -> int:
    for name in (*DECODER_TOKENS, *TOKENS):
        spec = _plain(given.get(name))
        if isinstance(spec, TensorSpec) and spec.ndim > 1:
            return spec.shape[1]
    return 0
