"""Linear layers and products whose backward, or whose loss, is one op."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from pytest_flopguard.core.measurement import FlopTally

Tally = Callable[[Callable[[], Any]], FlopTally]
Flops = Callable[..., int]

# [2, 3, 4] @ [5, 4].T: 2 * 6*4 * 5.
ONCE = 240


@pytest.mark.parametrize(
    ("op", "arguments", "expected"),
    [
        ("aten.mkldnn_linear", [(2, 3, 4), (5, 4), (5,)], ONCE),
        ("aten.mkldnn_linear", [(2, 3, 4), (5, 4)], ONCE),
        ("aten.linear_backward", [(2, 3, 4), (2, 3, 5), (5, 4), [True, True, True]], 2 * ONCE),
        ("aten.linear_backward", [(2, 3, 4), (2, 3, 5), (5, 4), [True, False, False]], ONCE),
        ("aten.mkldnn_linear_backward", [(2, 3, 4), (2, 3, 5), (5, 4), [False, True, True]], ONCE),
        ("aten.mkldnn_linear_backward", [(2, 3, 4), (2, 3, 5), (5, 4), [False, False, True]], 0),
        ("aten.mkldnn_linear_backward_input", [[2, 3, 4], (2, 3, 5), (5, 4)], ONCE),
        ("aten.mkldnn_linear_backward_weights", [(2, 3, 5), (2, 3, 4), (5, 4), True], ONCE),
        # [7, 3, 4] @ [4, 5]: 2 * 7*3*4*5.
        ("aten.matmul_backward", [(7, 3, 5), (7, 3, 4), (4, 5), [True, True]], 2 * 840),
        ("aten.matmul_backward", [(7, 3, 5), (7, 3, 4), (4, 5), [False, True]], 840),
    ],
)
def test_each_gradient_is_one_more_product(flops: Flops, op: str, arguments: list[Any], expected: int) -> None:
    assert flops(op, *arguments) == expected


@pytest.mark.skipif(not hasattr(nn.functional, "linear_cross_entropy"), reason="torch has it since 2.13")
@pytest.mark.parametrize(("of_x", "of_weight"), [(True, True), (True, False), (False, True), (False, False)])
def test_a_chunked_loss_counts_what_the_plain_one_does(tally: Tally, of_x: bool, of_weight: bool) -> None:
    from torch.nn.modules.linear_cross_entropy_options import LinearCrossEntropyOptions

    x, weight = torch.randn(64, 4, requires_grad=of_x), torch.randn(16, 4, requires_grad=of_weight)
    target = torch.zeros(64, dtype=torch.long)
    # The projection, 2 * 64*4 * 16.
    once = 8192

    def step(reduction: str, options: Any = None) -> FlopTally:
        def run() -> None:
            loss = nn.functional.linear_cross_entropy(x, weight, target, reduction=reduction, options=options)
            if of_x or of_weight:
                loss.sum().backward()

        return tally(run)

    plain, chunked = step("mean"), step("mean", LinearCrossEntropyOptions())
    assert plain.forward == once
    assert any("chunked" in op for op in chunked.by_op())
    assert plain.total == chunked.total == once * (1 + of_x + of_weight)
    # One loss for each item has its gradients in backward, where the projection is run again, and so is the loss: two
    # dot products of 64.
    each = step("none", LinearCrossEntropyOptions())
    assert any("no_reduction" in op for op in each.by_op())
    assert each.forward == once
    assert each.backward == (once * (1 + of_x + of_weight) + 256 if of_x or of_weight else 0)


def test_a_grid_is_a_product_of_coordinates_and_a_matrix(flops: Flops) -> None:
    # 2 images: [4 * 5, 3] @ [3, 2], 2 * 2 * 20 * 3 * 2. 2 volumes: [4 * 5 * 6, 4] @ [4, 3], 2 * 2 * 120 * 4 * 3.
    assert flops("aten.affine_grid_generator", (2, 2, 3), [2, 3, 4, 5], False, out=(2, 4, 5, 2)) == 480
    assert flops("aten.affine_grid_generator", (2, 3, 4), [2, 3, 4, 5, 6], False, out=(2, 4, 5, 6, 3)) == 5760
    assert flops("aten.cudnn_affine_grid_generator", (2, 2, 3), 2, 3, 4, 5, out=(2, 4, 5, 2)) == 480
    assert flops("aten.cudnn_affine_grid_generator_backward", (2, 4, 5, 2), 2, 3, 4, 5) == 480
