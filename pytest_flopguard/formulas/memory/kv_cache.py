"""Bytes of keys and values that a decoder keeps for the tokens it has read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pytest_flopguard.formulas.dtypes import dtype_bytes
from pytest_flopguard.formulas.sizes import divided, positive, whole


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerCache:
    """One layer's cache: ``heads`` with ``head_elements`` each per token, of the last ``window`` tokens if that is set.

    ``head_elements`` holds the key and the value of one head.
    """

    heads: int
    head_elements: int
    window: int | None = None

    @property
    def elements(self) -> int:
        """Elements per token, unsharded."""
        return whole("heads", self.heads) * whole("elements of a head", self.head_elements)

    def tokens(self, context: int) -> int:
        """Tokens that are kept of a context: min(s, w), all of them without a window.

        A window of w keys is a token and the w - 1 before it. transformers hands on w - 1 tokens, as a view of a
        storage with min(s, w) after a decode step and with the whole prompt right after it was read.
        """
        seen = whole("tokens", context)
        return seen if self.window is None else min(seen, positive("window", self.window))

    def sharded(self, devices: int) -> int:
        """Elements per token on one of some tensor-parallel devices; SizeError where heads cannot be dealt out.

        With fewer heads than devices a head is repeated, so MQA and MLA caches do not shrink.
        """
        if self.elements == 0:
            return 0
        return heads_on_device(self.heads, devices) * self.head_elements


def heads_on_device(heads: int, devices: int) -> int:
    """Key heads on one of some tensor-parallel devices: heads / t, or one where there are fewer heads than devices.

    SizeError where neither divides the other.
    """
    if devices > positive("kv_heads", heads):
        divided("tensor parallel size", devices, "kv_heads", heads)
        return 1
    return divided("kv_heads", heads, "tensor parallel size", devices)


def grouped(*, kv_heads: int, head_dim: int, window: int | None = None) -> LayerCache:
    """Keys and values of g heads: 2 * g * hd elements per token. g = a is MHA, 1 is MQA, between is GQA."""
    heads = positive("kv_heads", kv_heads)
    return LayerCache(heads=heads, head_elements=2 * positive("head_dim", head_dim), window=window)


def latent(*, kv_rank: int, rope_dim: int) -> LayerCache:
    """MLA's compressed cache: c + r elements per token, the latent and the shared rotary key.

    DeepSeek-V2 (arXiv 2405.04434), table 1. transformers keeps this; a library that writes keys and values out keeps
    ``expanded``.
    """
    return LayerCache(heads=1, head_elements=positive("kv_rank", kv_rank) + whole("rope_dim", rope_dim))


def expanded(*, heads: int, nope_dim: int, rope_dim: int, value_dim: int) -> LayerCache:
    """MLA with keys and values written out per head: a * (n + r + v) elements per token."""
    key = positive("nope_dim", nope_dim) + whole("rope_dim", rope_dim)
    return LayerCache(heads=positive("heads", heads), head_elements=key + positive("value_dim", value_dim))


def constant() -> LayerCache:
    """Return the cache of a linear, recurrent or state-space layer: nothing per token (its state is counted apart)."""
    return LayerCache(heads=0, head_elements=0)


def kv_cache_elements(layers: Iterable[LayerCache], *, tokens: int, batch: int = 1, tensor: int = 1) -> int:
    """Elements that all layers keep for ``tokens`` tokens of ``batch`` sequences, on one of ``tensor`` devices."""
    devices = positive("tensor parallel size", tensor)
    return positive("batch", batch) * sum(each.sharded(devices) * each.tokens(tokens) for each in layers)


def kv_cache_bytes(layers: Iterable[LayerCache], *, tokens: int, dtype: str, batch: int = 1, tensor: int = 1) -> int:
    """Bytes of ``kv_cache_elements`` in a dtype."""
    return dtype_bytes(dtype, kv_cache_elements(layers, tokens=tokens, batch=batch, tensor=tensor))
