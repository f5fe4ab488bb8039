"""torch.cond and while_loop: what ran counts, and where that hangs on absent values the op is unknown."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._higher_order_ops.map import map as map_rows
from torch._higher_order_ops.while_loop import while_loop
from torch._subclasses.fake_tensor import FakeTensorMode

from pytest_flopguard.core.measurement import FlopTally

Count = Callable[[Callable[[], Any]], FlopTally]
PRODUCT = 2 * 4 * 8 * 8  # [4, 8] @ [8, 8]
WEIGHT = torch.randn(8, 8)
X = torch.randn(4, 8)


class Choosing(nn.Module):
    """One product for positive sums, three for others."""

    def __init__(self) -> None:
        super().__init__()
        self.short = nn.Linear(8, 8, bias=False)
        self.long = nn.Sequential(*(nn.Linear(8, 8, bias=False) for _ in range(3)))

    def forward(self, x: Tensor) -> Any:
        return torch.cond(x.sum() > 0, lambda x: self.short(x), lambda x: self.long(x), (x,))


@pytest.mark.parametrize(("sign", "products"), [(1, 1), (-1, 3)])
def test_the_branch_that_ran(count: Count, sign: int, products: int) -> None:
    model, x = Choosing(), sign * torch.ones(4, 8)
    with torch.no_grad():
        found: list[Tensor] = []
        tally = count(lambda: found.append(model(x)))
        expected = model.short(x) if sign > 0 else model.long(x)
    assert (tally.total, tally.unknown_ops) == (products * PRODUCT, ())
    assert torch.equal(found[0], expected)


def test_each_round_of_a_loop(count: Count) -> None:
    def loop() -> Tensor:
        return while_loop(lambda i, x: i < 5, lambda i, x: (i + 1, x @ WEIGHT), (torch.tensor(0), X))[1]  # type: ignore[no-any-return]

    with torch.no_grad():
        found: list[Tensor] = []
        tally = count(lambda: found.append(loop()))
        assert torch.equal(found[0], loop())
    assert tally.total == 5 * PRODUCT


def test_no_round_at_all(count: Count) -> None:
    with torch.no_grad():
        tally = count(lambda: while_loop(lambda i, x: i < 0, lambda i, x: (i + 1, x @ WEIGHT), (torch.tensor(0), X)))
    assert tally.total == 0


def test_without_values_it_is_unknown(count: Count) -> None:
    with torch.no_grad(), FakeTensorMode():
        x = torch.zeros(8, 8)
        tally = count(lambda: torch.cond(x.sum() > 0, lambda x: x @ x, lambda x: x @ x @ x, (x,)))
    assert tally.total is None
    assert [each.op for each in tally.unknown_ops] == ["higher_order.cond"]


def test_what_a_branch_closes_over_gets_its_gradient(count: Count) -> None:
    model = Choosing()
    tally = count(lambda: model(torch.ones(4, 8)).sum().backward())
    assert model.short.weight.grad is not None
    # Forward: one product. Backward: torch runs the branch again and drops that, then the weight's gradient; the
    # input asks for none.
    assert (tally.forward, tally.backward, tally.unknown_ops) == (PRODUCT, 2 * PRODUCT, ())
    assert set(tally.by_module()) == {"Choosing"}


def test_each_row_of_a_map(count: Count) -> None:
    with torch.no_grad():
        tally = count(lambda: map_rows(lambda row, weight: (row[None] @ weight)[0], X, WEIGHT))
    # 4 rows of [1, 8] @ [8, 8].
    assert (tally.total, tally.unknown_ops) == (PRODUCT, ())
