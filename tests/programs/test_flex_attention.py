"""flex_attention counts as dense attention."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

from pytest_flopguard.core.measurement import FlopTally, OpCall
from pytest_flopguard.core.tensors import TensorSpec
from pytest_flopguard.formulas.registry import Registry

Count = Callable[[Callable[[], Any]], FlopTally]
pytestmark = pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
CAUSAL = create_block_mask(lambda b, h, i, j: i >= j, 1, 1, 16, 12, device="cpu", BLOCK_SIZE=4)
# 2 batches, 4 heads, 16*12 pairs, sums of 8 and 6.
DENSE = 2 * 2 * 4 * 16 * 12 * (8 + 6)


@pytest.mark.parametrize(
    "options", [{}, {"block_mask": CAUSAL}, {"score_mod": lambda score, b, h, i, j: score + i - j}]
)
@pytest.mark.parametrize("heads", [4, 2])
@pytest.mark.parametrize("setting", [torch.enable_grad, torch.inference_mode])
def test_forward_is_dense_attention(count: Count, options: Any, heads: int, setting: Any) -> None:
    query = torch.randn(2, 4, 16, 8)
    key, value = torch.randn(2, heads, 12, 8), torch.randn(2, heads, 12, 6)
    with setting():
        alone = flex_attention(query, key, value, enable_gqa=True, **options)
        found = []
        tally = count(lambda: found.append(flex_attention(query, key, value, enable_gqa=True, **options)))
    assert torch.equal(found[0], alone)
    assert (tally.total, tally.unknown_ops) == (DENSE, ())


def test_backward_is_twice_that(costs: Registry) -> None:
    # torch runs it on devices with a kernel for it only.
    query, key, value = TensorSpec((2, 4, 16, 8)), TensorSpec((2, 4, 12, 8)), TensorSpec((2, 4, 12, 6))
    cost = costs.cost(OpCall(op="higher_order.flex_attention_backward", args=(query, key, value, query)))
    assert (cost.flops, cost.kernel_recompute) == (2 * DENSE, 2 * 2 * 4 * 16 * 12 * 8)
