"""How many query-key pairs the mask of a flex_attention call keeps: its function, asked for every pair."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from pytest_flopguard.backends.constant_tensors import has_data, reading_values

_ROWS = 512  # queries asked at once: a square of 131,072 pairs would not fit in memory


class Pairs(NamedTuple):
    """All query-key pairs of a call, over its batches and heads, and those that are computed."""

    pairs: int
    kept: int


def flex_pairs(args: tuple[Any, ...]) -> Pairs | None:
    """Return the pairs of a ``flex_attention`` call or its backward; None where its mask reads what has no data."""
    query, key = args[0], args[1]
    batches, heads, queries, _ = query.shape
    keys = key.shape[-2]
    block_mask = next(each for each in args if _is_block_mask(each))
    own_batches, own_heads = block_mask[2].shape[:2]
    device = query.device if has_data(query) else torch.device("cpu")
    keeps, buffers = block_mask[-1], args[-1] if isinstance(args[-1], tuple) else ()
    try:
        with reading_values():
            kept = _kept(keeps, buffers, (own_batches, own_heads, queries, keys), device)
    except (RuntimeError, AssertionError):  # how torch refuses the values of meta and of fake tensors
        return None
    return Pairs(pairs=batches * heads * queries * keys, kept=kept * (batches // own_batches) * (heads // own_heads))


def _kept(
    keeps: Callable[..., torch.Tensor], buffers: Any, sizes: tuple[int, int, int, int], device: torch.device
) -> int:
    batch, head, query, key = (torch.arange(size, device=device) for size in sizes)
    rest = (None,) * len(buffers)
    every = keeps
    for at in (3, 2, 1, 0):  # innermost first: one key, then one query of all keys, ...
        every = torch.vmap(every, in_dims=(*(0 if each == at else None for each in range(4)), *rest))
    return sum(
        int(every(batch, head, rows, key, *buffers).expand(len(batch), len(head), len(rows), len(key)).sum())
        for rows in query.split(_ROWS)
    )


def _is_block_mask(value: Any) -> bool:
    # Its first two entries are lengths, its last is the function.
    return isinstance(value, tuple) and len(value) > 3 and isinstance(value[0], int) and callable(value[-1])
