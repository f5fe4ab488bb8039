"""How many query-key pairs a causal mask or a window lets through. Exact.

A dense kernel meets all S_q * S_k pairs. Under these masks query i meets an interval of keys, so the kept pairs are a
sum of interval lengths.
"""

from __future__ import annotations


def window_pairs(queries: int, keys: int, *, left: int | None = None, right: int | None = None, shift: int = 0) -> int:
    """Pairs of query i and key j with i + shift - left <= j <= i + shift + right; None is an open side.

    ``shift`` is 0 where query 0 stands at key 0, and ``keys - queries`` where the last query stands at the last key.
    Causal is right = 0: square, S * (S + 1) / 2. With a window of w keys, the query's own among them, left = w - 1:
    square and w <= S, S * w - w * (w - 1) / 2.
    """
    kept = 0
    for query in range(queries):
        first = 0 if left is None else max(0, query + shift - left)
        last = keys - 1 if right is None else min(keys - 1, query + shift + right)
        kept += max(0, last - first + 1)
    return kept


def causal_pairs(queries: int, keys: int, shift: int = 0) -> int:
    """Pairs of query i and key j with j <= i + shift."""
    return window_pairs(queries, keys, right=0, shift=shift)
