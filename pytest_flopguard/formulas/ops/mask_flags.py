"""What the flags of an attention call hide: ``is_causal`` and windows."""

from __future__ import annotations

from pytest_flopguard.core.measurement import OpCall
from pytest_flopguard.formulas.query_key_pairs import window_pairs
from pytest_flopguard.formulas.registry import Unknown

# custom_mask_type of the memory-efficient kernel.
_FROM_TOP_LEFT, _FROM_BOTTOM_RIGHT = 1, 2


def hidden_share(call: OpCall | None, queries: int, keys: int, *, last_to_last: bool) -> tuple[int, int]:
    """Return how many of how many pairs the call's flags hide; ``last_to_last`` is how the kernel aligns is_causal."""
    said = {} if call is None else call.by_name
    causal = said.get("is_causal", said.get("causal")) is True
    kind, width = said.get("custom_mask_type", 0), said.get("window_size")
    left, right = said.get("window_size_left"), said.get("window_size_right")
    if isinstance(width, (list, tuple)):
        (left, right), width = width, None
    # Kernels take a negative number for an open side.
    left = None if left is None or left < 0 else left
    right = None if right is None or right < 0 else right
    if kind in (_FROM_TOP_LEFT, _FROM_BOTTOM_RIGHT):
        causal, last_to_last = True, kind == _FROM_BOTTOM_RIGHT
    if width is not None and width > 0:
        if not causal:
            raise Unknown(f"a window of {width} keys without a causal mask")
        left = width - 1
    if not causal and left is None and right is None:
        return 0, queries * keys
    shift = keys - queries if last_to_last else 0
    kept = window_pairs(queries, keys, left=left, right=0 if causal else right, shift=shift)
    return queries * keys - kept, queries * keys
