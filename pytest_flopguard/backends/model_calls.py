"""Notes each outermost call of a module that has a config, with the facts that a closed form needs."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping
from functools import partial
from typing import Any, TypedDict

import torch
from torch import nn
from torch.utils._python_dispatch import _disable_current_modes

from pytest_flopguard.backends.call_specs import specs
from pytest_flopguard.core.model_call import Checkpointing, ModelCall
from pytest_flopguard.core.tensors import TensorSpec

_LAYER = "GradientCheckpointingLayer"  # the base class of transformers' layers
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
        # A plain attribute: asking a module for one that it lacks may run code of its own.
        config = getattr(_unwrapped(module), "__dict__", {}).get("config")
        return isinstance(getattr(config, "model_type", None), str) and hasattr(config, "to_dict")

    def note(self, module: nn.Module, args: tuple[Any, ...], path: str) -> None:
        """Describe the call that is about to run; called from a forward pre-hook."""
        module = _unwrapped(module)
        given = _bound(module, args, keywords_of_call())
        model: Any = module
        cache = given.get("past_key_values")
        inputs = {name: _plain(value) for name, value in given.items() if name != "past_key_values"}
        length = _new_tokens(inputs)
        parameters = list(module.named_parameters())
        self.seen.append(
            ModelCall(
                model=_class_name(module),
                path=path,
                config=self._config(model),
                inputs=inputs,
                children=tuple(name for name, _ in module.named_children()),
                past=_held(cache),
                keys=_key_lengths(cache, length),
                cross_cached=_holds_encoder(cache),
                kernel=str(getattr(model.config, "_attn_implementation", "") or ""),
                unpadded=_unpadded(given.get("attention_mask"), length),
                training=module.training,
                grad=torch.is_grad_enabled() and any(each.requires_grad for _, each in parameters),
                wants_gradient=frozenset(
                    name for name, value in given.items() if isinstance(value, torch.Tensor) and value.requires_grad
                ),
                **_checkpointing(module),
                frozen=tuple(name for name, each in parameters if not each.requires_grad),
            )
        )


def _unwrapped(module: nn.Module) -> nn.Module:
    # torch.compile wraps a model in one that calls it _orig_mod.
    inner: nn.Module = getattr(module, "_orig_mod", module)
    return inner


def _class_name(module: nn.Module) -> str:
    """Return the class of transformers that a module is, also where a test or a wrapper made a subclass of it."""
    for each in type(module).__mro__:
        if each.__module__.startswith("transformers."):
            return each.__name__
    return type(module).__name__


def keywords_of_call() -> dict[str, Any]:
    """Return the keyword arguments of the module call that a global forward pre-hook is told of."""
    # Global hooks are not given keyword arguments; the torch frame that calls them holds them.
    frame = sys._getframe(2)
    while frame is not None:
        if frame.f_code.co_name == "inner" and frame.f_globals.get("__name__") == nn.Module.__module__:
            found = frame.f_locals.get("kwargs")
            return dict(found) if isinstance(found, dict) else {}
        if frame.f_back is None:
            break
        frame = frame.f_back
    return {}


def _bound(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments by name; those that the signature does not take are the module's own to refuse."""
    try:
        bound = inspect.signature(module.forward).bind(*args, **kwargs).arguments
    except TypeError:
        return kwargs
    found: dict[str, Any] = {}
    for name, value in bound.items():
        found |= value if isinstance(value, dict) and name not in kwargs else {name: value}
    return found


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


def _new_tokens(inputs: Mapping[str, Any]) -> int:
    for name in ("decoder_input_ids", "input_ids", "decoder_inputs_embeds", "inputs_embeds"):
        value = inputs.get(name)
        if isinstance(value, TensorSpec) and value.ndim > 1:
            return value.shape[1]
    return 0


def _held(cache: Any) -> int | None:
    """Return the tokens in a cache; None where they are in a tensor that has no values."""
    if not hasattr(cache, "get_seq_length"):
        return 0
    # A static cache keeps its length in a tensor; reading it is no work of the test's.
    with _disable_current_modes():
        try:
            return int(cache.get_seq_length())
        except (RuntimeError, NotImplementedError):
            return None


def _key_lengths(cache: Any, length: int) -> tuple[int, ...]:
    """Return how many positions each layer's attention meets, as the cache itself tells; empty without a cache."""
    own = getattr(cache, "self_attention_cache", cache)
    layers = len(getattr(own, "layers", ()))
    if not hasattr(own, "get_mask_sizes"):
        return ()
    return tuple(int(own.get_mask_sizes(length, layer)[0]) for layer in range(layers))


def _unpadded(mask: Any, length: int) -> bool:
    """Whether a mask of tokens hides none of the new ones; False where nobody can read it."""
    if isinstance(mask, Mapping):
        # Masks by kind of layer are those that attention gets: none where it need not look.
        mask = mask.get("full_attention")
    if mask is None:
        return True
    if not isinstance(mask, torch.Tensor) or mask.ndim != 2:
        return False
    with _disable_current_modes():
        try:
            return bool((mask[:, :length] != 0).all())
        except (RuntimeError, NotImplementedError):
            return False


def _holds_encoder(cache: Any) -> bool:
    updated = getattr(cache, "is_updated", None)
    return isinstance(updated, dict) and bool(updated) and all(updated.values())


class _Checkpointed(TypedDict):
    checkpointing: Checkpointing
    checkpointed: tuple[bool, ...]


def _checkpointing(module: nn.Module) -> _Checkpointed:
    """Return what checkpointing will do again: what transformers' layers say of themselves."""
    layers = [each for each in module.modules() if _LAYER in (kind.__name__ for kind in type(each).__mro__)]
    flags = tuple(getattr(each, "gradient_checkpointing", False) is True for each in layers)
    found: Checkpointing = "none"
    if module.training and any(flags):
        function = getattr(layers[flags.index(True)], "_gradient_checkpointing_func", None)
        keywords = function.keywords if isinstance(function, partial) else {}
        found = "whole" if keywords.get("use_reentrant", True) else "needed"
    return {"checkpointing": found, "checkpointed": flags}
