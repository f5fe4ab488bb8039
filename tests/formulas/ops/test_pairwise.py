"""Distances, products of three operands and weighted bags: loops that do them, and torch's functions."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
import torch
from torch import nn

from pytest_flopguard.core.measurement import FlopTally

Tally = Callable[[Callable[[], Any]], FlopTally]
Flops = Callable[..., int]
Tensor = torch.Tensor


def distances(a: Tensor, b: Tensor) -> tuple[Tensor, int]:
    """Euclidean distances of all rows, squaring and adding one difference after the other."""
    out, terms = torch.zeros(len(a), len(b)), 0
    for row, column, inner in product(range(len(a)), range(len(b)), range(a.shape[1])):
        out[row, column] += (a[row, inner] - b[column, inner]) ** 2
        terms += 1
    return out.sqrt(), terms


def test_distances_have_a_term_for_each_pair_and_column(tally: Tally) -> None:
    a, b = torch.randn(3, 4), torch.randn(5, 4)
    expected, terms = distances(a, b)
    torch.testing.assert_close(torch.cdist(a, b), expected)
    assert terms == 3 * 5 * 4
    assert tally(lambda: torch.cdist(a, b)).forward == 2 * terms


@pytest.mark.parametrize("power", [0.0, 1.0, 1.5, 2.0, float("inf")])
@pytest.mark.parametrize("rows", [3, 30])
def test_distances_count_alike_whatever_the_power_and_the_kernel(tally: Tally, power: float, rows: int) -> None:
    # From more than 25 rows on, torch turns Euclidean distances into a matrix product.
    a, b = torch.randn(rows, 4, requires_grad=True), torch.randn(35, 4, requires_grad=True)
    found = tally(lambda: torch.cdist(a, b, p=power).sum().backward())
    once = 2 * rows * 35 * 4
    assert (found.forward, found.backward) == (once, 2 * once)
    # One of the gradients alone; that of the matrix product forms both all the same.
    found = tally(lambda: torch.cdist(a.detach(), b, p=power).sum().backward())
    assert (found.forward, found.backward) == (once, 2 * once if power == 2.0 else once)


def test_batches_of_distances_broadcast(tally: Tally) -> None:
    # 2 x 3 batches of 3 * 5 pairs with 4 terms.
    a, b = torch.randn(2, 1, 3, 4), torch.randn(3, 5, 4)
    assert tally(lambda: torch.cdist(a, b)).forward == 2 * 6 * 3 * 5 * 4
    assert tally(lambda: torch.cdist(a[:, :, :0], b)).forward == 0


def test_distances_within_one_matrix_count_each_pair_once(tally: Tally, flops: Flops) -> None:
    # 5 rows are 10 pairs, of 4 terms each; backward passes each on to both of its rows.
    x = torch.randn(5, 4, requires_grad=True)
    found = tally(lambda: nn.functional.pdist(x).sum().backward())
    assert (found.forward, found.backward) == (2 * 10 * 4, 4 * 10 * 4)
    assert flops("aten._pdist_forward", (1, 4)) == flops("aten._pdist_backward", (0,), (0, 4)) == 0


BATCH, LEFT, RIGHT, OUT = 3, 4, 5, 6


def bilinear(x: Tensor, weight: Tensor, y: Tensor) -> Tensor:
    """The same sum as two products of two: x into the weight, then y."""
    middle = torch.einsum("bi,oij->boj", x, weight)
    return (middle * y.unsqueeze(1)).sum(-1)


def test_a_bilinear_form_is_two_products(tally: Tally) -> None:
    layer = nn.Bilinear(LEFT, RIGHT, OUT)
    x, y = torch.randn(BATCH, LEFT), torch.randn(BATCH, RIGHT)
    torch.testing.assert_close(layer(x, y), bilinear(x, layer.weight, y) + layer.bias)
    # 2*B*O*I*J for x into the weight, 2*B*O*J for y.
    expected = 2 * 3 * 6 * 4 * 5 + 2 * 3 * 6 * 5
    assert tally(lambda: layer(x, y)).forward == expected
    assert tally(lambda: torch.einsum("bi,oij,bj->bo", x, layer.weight, y)).forward == expected


def test_a_bilinear_forms_gradients_count_by_operand(tally: Tally) -> None:
    def backward(*trained: bool) -> int | None:
        sizes = [(BATCH, LEFT), (BATCH, RIGHT), (OUT, LEFT, RIGHT)]
        x, y, weight = (torch.randn(size, requires_grad=each) for size, each in zip(sizes, trained, strict=True))
        return tally(lambda: nn.functional.bilinear(x, y, weight).sum().backward()).backward

    most = 2 * BATCH * OUT * LEFT * RIGHT
    # For x, the gradient meets the weight elementwise, and each of B*O*I*J terms is summed over j and o.
    assert backward(True, False, False) == most
    # For the weight, each of O*I*J elements sums B terms.
    assert backward(False, False, True) == most
    # For y, x meets the weight again as in forward, then B*O*J terms are summed over o.
    assert backward(False, True, False) == most + 2 * BATCH * OUT * RIGHT
    assert backward(True, True, True) == 3 * most + 2 * BATCH * OUT * RIGHT


@pytest.mark.parametrize(
    ("shapes", "expand", "summed", "unrolled", "expected"),
    [
        # Nothing is summed: a * b * c elementwise.
        ([(2, 3), (2, 3), (2, 3)], ([], [], []), [], 1, 0),
        # Summed over the last dimension of all three: a * b elementwise, then 2 * 2*3.
        ([(2, 3), (2, 3), (2, 3)], ([], [], []), [1], 0, 12),
        # c lacks the last dimension: 2 * 2*3 after a * b, elementwise with c.
        ([(2, 3), (2, 3), (2,)], ([], [], [1]), [1], 0, 12),
        # The same dimension, unrolled: a * b elementwise, the sum comes after c.
        ([(2, 3), (2, 3), (2,)], ([], [], [1]), [1], 1, 12),
        # Both: 2 * 2*3 over the last, then 2 * 2 over the first.
        ([(2, 3), (2, 3), (2,)], ([], [], [1]), [0, 1], 3, 16),
        ([(2, 0), (2, 0), (2,)], ([], [], [1]), [1], 0, 0),
    ],
)
def test_products_of_three(
    flops: Flops, shapes: list[tuple[int, ...]], expand: Any, summed: list[int], unrolled: int, expected: int
) -> None:
    assert flops("aten._trilinear", *shapes, *expand, summed, unrolled) == expected


@pytest.mark.parametrize("sparse", [True, False], ids=["sparse-grad", "dense-grad"])
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_weighted_bags_multiply(tally: Tally, device: str, sparse: bool) -> None:
    table = torch.randn(7, 4, requires_grad=True, device=device)
    weights = torch.randn(2, 3, requires_grad=True, device=device)
    indices = torch.zeros(2, 3, dtype=torch.long, device=device)
    found = tally(
        lambda: (
            nn.functional.embedding_bag(indices, table, per_sample_weights=weights, mode="sum", sparse=sparse)
            .sum()
            .backward()
        )
    )
    # 6 indices of width 4, a multiply-add each; backward the same for the table and for the weights.
    assert (found.forward, found.backward) == (48, 96)
    with torch.no_grad():
        found = tally(lambda: nn.functional.embedding_bag(indices, table, per_sample_weights=weights, mode="sum"))
        assert found.forward == 48


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
def test_bags_without_weights_only_add(tally: Tally, mode: str) -> None:
    table = torch.randn(7, 4, requires_grad=True)
    indices = torch.zeros(2, 3, dtype=torch.long)
    found = tally(lambda: nn.functional.embedding_bag(indices, table, mode=mode).sum().backward())
    assert found.unknown_ops == ()
    assert found.total == 0


def test_the_dense_gradient_of_a_weighted_bag(flops: Flops) -> None:
    before = ((2, 4), (6,), (6,), (2,), (2,), 7, False, 0)
    assert flops("aten._embedding_bag_dense_backward", *before, (6,), -1) == 48
    assert flops("aten._embedding_bag_dense_backward", *before, None, -1) == 0


def test_outer_products_are_elementwise_and_sums_of_them_count(tally: Tally) -> None:
    x, y = torch.randn(3), torch.randn(4)
    assert tally(lambda: torch.outer(x, y)).total == 0
    assert tally(lambda: torch.kron(x, y)).total == 0
    # Onto a matrix: 2 * 3*4.
    assert tally(lambda: torch.addr(torch.ones(3, 4), x, y)).total == 24
