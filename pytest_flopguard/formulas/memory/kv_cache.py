"""Bytes of keys and values that a decoder keeps for the tokens it has read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pytest_flopguard.formulas.dtypes import dtype_bytes
from pytest_flopguard.formulas.sizes import divided, positive, whole


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerCache:
    """One layer's cache: ``elements`` kept per token, of the last ``window`` tokens only where that is set."""

    elements: int
    window: int | None = None

    def tokens(self, context: int) -> int:
        """Tokens that are kept of a context: min(s, w), all of them without a window."""
        seen = whole("tokens", context)
        return seen if self.window is None else min(seen, positive("window", self.window))


def grouped(*, kv_heads: int, head_dim: int, window: int | None = None) -> LayerCache:
    """Keys and values of g heads: 2 * g * hd elements per token. g = a is MHA, 1 is MQA, between is GQA."""
    elements = 2 * positive("kv_heads", kv_heads) * positive("head_dim", head_dim)
    return LayerCache(elements=elements, window=window)


def latent(*, kv_rank: int, rope_dim: int) -> LayerCache:
    """MLA's compressed cache: c + r elements per token, the latent and the shared rotary key.

    DeepSeek-V2 (arXiv 2405.04434), table 1. What a library keeps may be more: see ``expanded``.
    """
    return LayerCache(elements=positive("kv_rank", kv_rank) + whole("rope_dim", rope_dim))


def expanded(*, heads: int, nope_dim: int, rope_dim: int, value_dim: int) -> LayerCache:
    """MLA with keys and values written out per head: a * (n + r + v) elements per token."""
    key = positive("nope_dim", nope_dim) + whole("rope_dim", rope_dim)
    return LayerCache(elements=positive("heads", heads) * (key + positive("value_dim", value_dim)))


def constant() -> LayerCache:
    """Return the cache of a linear, recurrent or state-space layer: nothing per token (its state is counted apart)."""
    return LayerCache(elements=0)


def kv_cache_elements(layers: Iterable[LayerCache], *, tokens: int, batch: int = 1) -> int:
    """Elements that all layers keep for ``tokens`` tokens of each of ``batch`` sequences."""
    return positive("batch", batch) * sum(each.elements * each.tokens(tokens) for each in layers)


def kv_cache_bytes(layers: Iterable[LayerCache], *, tokens: int, dtype: str, batch: int = 1, tensor: int = 1) -> int:
    """Bytes of the cache on each of ``tensor`` devices that divide the heads evenly; SizeError where they do not."""
    kept = tuple(layers)
    shards = positive("tensor parallel size", tensor)
    for each in kept:
        if each.elements:
            divided("elements per token", each.elements, "tensor parallel size", shards)
    return dtype_bytes(dtype, kv_cache_elements(kept, tokens=tokens, batch=batch) // shards)
