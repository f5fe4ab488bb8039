"""All that measuring reads of transformers by name: its classes, attributes and arguments.

transformers is never imported: a program without it needs none of this. ``tests/backends/test_transformers_api.py``
checks every name against the installed release.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils import checkpoint

from pytest_flopguard.backends.torch_api.dispatch import disable_current_modes
from pytest_flopguard.core.model_call import Checkpointing

PACKAGE = "transformers"
CHECKPOINTED_LAYER = "GradientCheckpointingLayer"  # the base class of layers, modeling_layers.py
CHECKPOINTING_FLAG = "gradient_checkpointing"
CHECKPOINTING_FUNCTION = "_gradient_checkpointing_func"
ATTENTION_KERNEL = "_attn_implementation"  # of a config
# A function by which masks are built differently for fake tensors, and the modules that hold it.
IS_FAKE_TENSOR = "is_fake_tensor"
FAKE_TENSOR_CHECKS = ("transformers.utils.import_utils", "transformers.utils", "transformers.masking_utils")
FULL_ATTENTION = "full_attention"  # the kind of layer, among masks by kind

# Arguments that are named like a cache and hold none: the positions of the new tokens in it.
NO_CACHE = frozenset({"cache_position"})
# Keywords of torch's checkpoint that do not change what it does again.
_SAME_WORK = frozenset({"preserve_rng_state", "determinism_check", "debug", "respect_saved_tensors_hooks"})
_CACHE_WORDS = ("cache", "past", "kv_states")
LENGTH, MASK_SIZES, LAYERS = "get_seq_length", "get_mask_sizes", "layers"
SELF_ATTENTION, CROSS_ATTENTION, UPDATED = "self_attention_cache", "cross_attention_cache", "is_updated"


def config_of(module: nn.Module) -> Any:
    """Return a module's config that names a model type; None if it has none."""
    # A plain attribute: asking a module for one that it lacks may run code of its own.
    config = getattr(module, "__dict__", {}).get("config")
    named = isinstance(getattr(config, "model_type", None), str) and hasattr(config, "to_dict")
    return config if named else None


def attention_kernel(config: Any) -> str:
    """Return the implementation of attention that a config names."""
    return str(getattr(config, ATTENTION_KERNEL, "") or "")


def model_class(module: nn.Module) -> str:
    """Return the class of transformers that a module is, also where a test or a wrapper made a subclass of it."""
    for kind in type(module).__mro__:
        if kind.__module__.startswith(f"{PACKAGE}."):
            return kind.__name__
    return type(module).__name__


@dataclass(frozen=True, slots=True, kw_only=True)
class CallCache:
    """The cache that came with a call: its ``arguments``, and what they held before it.

    ``past`` are the tokens in it, None where their number is in a tensor without values. ``keys`` are the positions
    that each layer's attention meets, the new ones included; empty without a cache. ``problem`` is why it cannot be
    read.
    """

    arguments: frozenset[str] = frozenset()
    past: int | None = 0
    keys: tuple[int, ...] = ()
    cross_cached: bool = False
    problem: str = ""


def cache_of(given: Mapping[str, Any], new_tokens: int) -> CallCache:
    """Find the cache among a call's arguments by what it is, since releases name the argument differently."""
    found = {name: value for name, value in given.items() if _may_be_cache(name, value)}
    arguments = frozenset(found)
    if not found:
        return CallCache()
    if len({id(value) for value in found.values()}) > 1:
        several = " and ".join(found)
        return CallCache(arguments=arguments, problem=f"{several} are two caches, and a closed form has one")
    name, cache = next(iter(found.items()))
    try:
        # A static cache keeps its length in a tensor, and reading it is not the test's work.
        with disable_current_modes():
            keys, cross_cached = _key_lengths(cache, new_tokens), _holds_encoder(cache)
            past = _tokens_in(cache)
    except _Unreadable as error:
        return CallCache(arguments=arguments, problem=f"its argument {name} ({_class(cache)}) cannot be read: {error}")
    return CallCache(arguments=arguments, past=past, keys=keys, cross_cached=cross_cached)


class _Unreadable(Exception):
    """An object lacks something that those of transformers have, or has a value with an unknown meaning."""


def _may_be_cache(name: str, value: Any) -> bool:
    if value is None or isinstance(value, (bool, int, float, str)) or name in NO_CACHE:
        return False
    return _is_cache(value) or "Cache" in _class(value) or any(word in name for word in _CACHE_WORDS)


def _is_cache(value: Any) -> bool:
    return callable(getattr(type(value), LENGTH, None))


def _class(value: Any) -> str:
    return type(value).__name__


def _key_lengths(cache: Any, new_tokens: int) -> tuple[int, ...]:
    if not _is_cache(cache):
        raise _Unreadable(f"it has no {LENGTH}")
    own = getattr(cache, SELF_ATTENTION, cache)
    layers = getattr(own, LAYERS, None)
    if not isinstance(layers, (list, tuple)):
        raise _Unreadable(f"it has no list of {LAYERS}")
    for index, layer in enumerate(layers):
        if not callable(getattr(type(layer), MASK_SIZES, None)):
            raise _Unreadable(f"its layer {index} is a {_class(layer)}, which holds no keys")
    return tuple(int(own.get_mask_sizes(new_tokens, index)[0]) for index in range(len(layers)))


def _tokens_in(cache: Any) -> int | None:
    try:
        return int(cache.get_seq_length())
    except (RuntimeError, NotImplementedError):  # a tensor on the meta device or a fake one has no value
        return None


def _holds_encoder(cache: Any) -> bool:
    """Whether a cache holds the keys and values of an encoder's output."""
    if not hasattr(cache, CROSS_ATTENTION):
        return False
    updated = getattr(cache, UPDATED, None)
    if not isinstance(updated, Mapping):
        raise _Unreadable(f"it has no {UPDATED}")
    # Layers that the decoder does not have are never updated.
    return any(updated.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerCheckpointing:
    """What checkpointing will do again, for each layer whether it is checkpointed, and why this cannot be read."""

    again: Checkpointing = "none"
    layers: tuple[bool, ...] = ()
    problem: str = ""


def checkpointing_of(module: nn.Module) -> LayerCheckpointing:
    """Read how a model's layers are checkpointed."""
    layers = [part for part in module.modules() if CHECKPOINTED_LAYER in (kind.__name__ for kind in type(part).__mro__)]
    flags = tuple(getattr(layer, CHECKPOINTING_FLAG, False) is True for layer in layers)
    if not (module.training and any(flags)):
        return LayerCheckpointing(layers=flags)
    try:
        again = _again(getattr(layers[flags.index(True)], CHECKPOINTING_FUNCTION, None))
    except _Unreadable as error:
        return LayerCheckpointing(layers=flags, problem=f"its checkpointing cannot be read: {error}")
    return LayerCheckpointing(again=again, layers=flags)


def enable_checkpointing(model: Any, use_reentrant: bool) -> None:
    """Checkpoint every layer of a model; releases before 5.23 have the method under its former name only."""
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable({"use_reentrant": use_reentrant})


def _again(function: Any) -> Checkpointing:
    if not isinstance(function, partial) or function.func is not checkpoint.checkpoint or function.args:
        raise _Unreadable(f"layers are run by {function!r}, and not by torch.utils.checkpoint.checkpoint with keywords")
    keywords = function.keywords
    unknown = keywords.keys() - _SAME_WORK - {"use_reentrant", "early_stop"}
    if unknown:
        raise _Unreadable(f"{', '.join(sorted(unknown))} changes what is done again")
    reentrant, stops = keywords.get("use_reentrant"), keywords.get("early_stop", True)
    if not isinstance(reentrant, bool):
        raise _Unreadable(f"use_reentrant = {reentrant!r}: expected True or False")
    return "whole" if reentrant or not stops else "needed"


def hides_none(mask: Any, new_tokens: int) -> bool:
    """Whether an attention mask hides none of the new tokens; False where its values cannot be read."""
    if isinstance(mask, Mapping):
        # Masks by kind of layer are those that attention gets: none where it need not look.
        mask = mask.get(FULL_ATTENTION)
    if mask is None:
        return True
    if not isinstance(mask, torch.Tensor) or mask.ndim != 2:
        return False
    with disable_current_modes():
        try:
            return bool((mask[:, :new_tokens] != 0).all())
        except (RuntimeError, NotImplementedError):
            return False
