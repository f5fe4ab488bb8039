"""How many pairs of a query and a key attention computes: all of them, or only those that a causal kernel must."""

from __future__ import annotations

from typing import Literal

from pytest_flopguard.core.errors import SizeError, message
from pytest_flopguard.formulas.sizes import positive, whole

Convention = Literal["dense", "causal"]
CONVENTIONS: tuple[Convention, ...] = ("dense", "causal")


def convention(value: str) -> Convention:
    """Return ``"dense"`` or ``"causal"``; SizeError for anything else."""
    for each in CONVENTIONS:
        if value == each:
            return each
    raise SizeError(message("bad-size", name="attention", value=value, rule="'dense' or 'causal'"))


def dense_pairs(queries: int, keys: int) -> tuple[int, str]:
    """Every query meets every key, masked or not: s*t."""
    return whole("queries", queries) * whole("keys", keys), "s*t"


def causal_pairs(queries: int, past: int = 0, window: int = 0) -> tuple[int, str]:
    """Query i of s meets the p keys before the sequence, those up to itself, and of all these the last ``window``.

    Without a window, the sum of p + i + 1 over i < s is s*p + s*(s + 1)/2. A window of w keys cuts each summand to w:
    the first m = min(s, max(0, w - p)) queries do not reach it, which gives m*p + m*(m + 1)/2 + (s - m)*w;
    with p = 0 and w <= s that is s*w - w*(w - 1)/2. ``window=0`` means none.
    """
    s, p, w = whole("queries", queries), whole("past", past), whole("window", window)
    if not w or p + s <= w:
        return s * p + s * (s + 1) // 2, "(s*p + s*(s + 1)//2)" if p else "s*(s + 1)//2"
    m = min(s, max(0, w - p))
    if not p:
        return s * w - w * (w - 1) // 2, f"(s*{w} - {w}*({w} - 1)//2)"
    if not m:
        return s * w, f"s*{w}"
    return m * p + m * (m + 1) // 2 + (s - m) * w, f"({m}*p + {m}*({m} + 1)//2 + (s - {m})*{w})"


def checked_window(name: str, window: int) -> int:
    """Return a window in keys, 0 for none; SizeError for anything else."""
    return positive(name, window) if window else whole(name, window)
