"""The installed transformers' names of a model's cache: ``cache`` since 5.24, ``past_key_values`` before."""

from __future__ import annotations

import inspect
from typing import Any

NAMES = ("cache", "past_key_values", "cache_params")


def cache_argument(model: Any) -> str:
    """Return the name of the argument that takes a model's cache."""
    taken = inspect.signature(model.forward).parameters
    return next(name for name in NAMES if name in taken)


def with_cache(model: Any, cache: object) -> dict[str, object]:
    """Return the keyword argument that gives a cache to a model."""
    return {cache_argument(model): cache}


def cache_in(output: Any) -> Any:
    """Return the cache in a model's output."""
    return next(output[name] for name in NAMES if name in output)
