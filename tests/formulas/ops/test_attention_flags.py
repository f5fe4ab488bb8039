"""What the flags of fused attention hide: told beside the dense FLOPs, which stay as they are."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_flopguard.core.measurement import Cost, OpCall
from pytest_flopguard.core.tensors import TensorSpec
from pytest_flopguard.formulas.registry import default_registry

# 2 batches, 4 heads, sums of 8 for scores and values: 2 * 4 * (16 + 16) FLOPs for each of S_q * S_k pairs.
PAIR = 2 * 4 * 2 * (8 + 8)
HEADS_FIRST = (TensorSpec((2, 4, 5, 8)), TensorSpec((2, 4, 7, 8)), TensorSpec((2, 4, 7, 8)))
HEADS_LAST = (TensorSpec((2, 5, 4, 8)), TensorSpec((2, 7, 4, 8)), TensorSpec((2, 7, 4, 8)))


def cost(op: str, operands: tuple[TensorSpec, ...], **flags: Any) -> Cost:
    names = ("query", "key", "value")
    return default_registry().cost(OpCall(op=f"aten.{op}", args=operands, names=names, kwargs=flags))


@pytest.mark.parametrize(
    ("op", "operands", "flags", "kept"),
    [
        # Query i meets keys 0 to i: 1 + 2 + 3 + 4 + 5.
        ("_scaled_dot_product_flash_attention", HEADS_FIRST, {"is_causal": True}, 15),
        ("_scaled_dot_product_flash_attention", HEADS_FIRST, {"is_causal": False}, 35),
        # flash-attention lets the last query meet the last key: 3 + 4 + 5 + 6 + 7.
        ("_flash_attention_forward", HEADS_LAST, {"is_causal": True}, 25),
        # Of these the last 3: 3 + 3 + 3 + 3 + 3. A negative side is open.
        ("_flash_attention_forward", HEADS_LAST, {"is_causal": True, "window_size_left": 2}, 15),
        ("_flash_attention_forward", HEADS_LAST, {"is_causal": True, "window_size_left": -1}, 25),
        # One key on either side of i + 2: 3 each, but 2 for the last.
        ("_flash_attention_forward", HEADS_LAST, {"window_size_left": 1, "window_size_right": 1}, 14),
        # The memory-efficient kernel names where the diagonal starts, and counts keys of a window with the query's own.
        ("_efficient_attention_forward", HEADS_LAST, {"custom_mask_type": 0}, 35),
        ("_efficient_attention_forward", HEADS_LAST, {"custom_mask_type": 1}, 15),
        ("_efficient_attention_forward", HEADS_LAST, {"custom_mask_type": 2}, 25),
        ("_efficient_attention_forward", HEADS_LAST, {"custom_mask_type": 2, "window_size": 3}, 15),
    ],
)
def test_hidden_pairs(op: str, operands: tuple[TensorSpec, ...], flags: dict[str, Any], kept: int) -> None:
    found = cost(op, operands, **flags)
    assert (found.flops, found.masked_flops) == (35 * PAIR, (35 - kept) * PAIR)


def test_a_window_without_a_causal_mask_is_unknown() -> None:
    found = cost("_efficient_attention_forward", HEADS_LAST, custom_mask_type=0, window_size=3)
    assert found.flops is None
    assert found.reason == "a window of 3 keys without a causal mask"


def test_backward_hides_twice_as_much() -> None:
    operands = (HEADS_FIRST[0], *HEADS_FIRST)
    names = ("grad_out", "query", "key", "value")
    op = "aten._scaled_dot_product_flash_attention_backward"
    found = default_registry().cost(OpCall(op=op, args=operands, names=names, kwargs={"is_causal": True}))
    assert (found.flops, found.masked_flops) == (2 * 35 * PAIR, 2 * 20 * PAIR)
