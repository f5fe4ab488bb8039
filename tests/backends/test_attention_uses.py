"""The causal convention where scores and weights are used more than once, or in ways that nobody can follow.

What is never right is a total that is too small or too large without a word: each case is exact or unknown.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from pytest_flopguard.backends.dispatch import DispatchFlops
from pytest_flopguard.backends.live_storage import LiveStorage
from pytest_flopguard.core.measurement import Attention, FlopTally
from pytest_flopguard.formulas.registry import default_registry

INF = float("-inf")
LENGTH, WIDTH = 16, 8
LOWER = torch.ones(LENGTH, LENGTH, dtype=torch.bool).tril()
FUTURE = ~LOWER
OUTSIDE = ~(LOWER & ~LOWER.tril(-4))  # a window of 4: 1 + 2 + 3 + 13 * 4 = 58 pairs are left
Q, K, V = (torch.randn(LENGTH, WIDTH) for _ in range(3))
PAIR = 2 * WIDTH  # one product
ALL, CAUSAL = LENGTH**2, LENGTH * (LENGTH + 1) // 2


def count(function: Callable[[], Any]) -> FlopTally:
    with DispatchFlops(default_registry("causal")) as engine:
        mark = engine.begin()
        function()
        return engine.end(mark)


def masked(scores: Tensor, hidden: Tensor = FUTURE) -> Tensor:
    return scores.masked_fill(hidden, INF).softmax(-1)


def both_weights() -> Any:
    scores = Q @ K.T
    return (masked(scores) + scores.softmax(-1)) @ V


def two_windows() -> Any:
    scores = Q @ K.T
    return (masked(scores, OUTSIDE) + masked(scores)) @ V


def with_and_without() -> Any:
    scores = Q @ K.T
    return masked(scores) @ V, scores.softmax(-1) @ V


def plus_noise() -> Any:
    weights = masked(Q @ K.T)
    return weights @ V, (weights + torch.randn(LENGTH, LENGTH)) @ V


def overwritten() -> Any:
    weights = masked(Q @ K.T)
    first = weights @ V
    weights.fill_(1.0)
    return first, weights @ V


@pytest.mark.parametrize(
    ("attend", "pairs"),
    [
        (both_weights, ALL + ALL),  # the unmasked half needs every pair
        (two_windows, CAUSAL + CAUSAL),  # what either of the two needs
        (with_and_without, ALL + CAUSAL + ALL),  # one product of scores, two of values
        (plus_noise, CAUSAL + CAUSAL + ALL),  # noise is not zero where weights are
        (overwritten, CAUSAL + CAUSAL + ALL),
    ],
)
def test_every_use_needs_its_own_pairs(attend: Callable[[], Any], pairs: int) -> None:
    tally = count(attend)
    assert (tally.total, tally.unknown_ops) == (pairs * PAIR, ())


def scores() -> Tensor:
    return Q @ K.T


def indexed() -> Any:
    found = scores()
    found[FUTURE] = INF
    return found.softmax(-1) @ V


def indexed_by_tensor() -> Any:
    found = scores()
    found[FUTURE] = torch.tensor(INF)
    return found.softmax(-1) @ V


def sliced() -> Any:
    found = scores()
    found[:, 8:] = INF
    return found.softmax(-1) @ V


def by_hand() -> Any:
    powers = (scores().masked_fill(FUTURE, INF) - 1.0).exp()
    return (powers / powers.sum(-1, keepdim=True)) @ V


def rollout() -> Any:
    weights = masked(scores())
    return weights @ weights


@pytest.mark.parametrize(
    "attend",
    [
        indexed_by_tensor,
        sliced,
        by_hand,
        rollout,
        lambda: scores().masked_fill(FUTURE, INF).log_softmax(-1).exp() @ V,
        lambda: scores().masked_scatter(FUTURE, torch.full((LENGTH**2,), INF)).softmax(-1) @ V,
    ],
)
def test_what_cannot_be_followed_is_unknown(attend: Callable[[], Any]) -> None:
    tally = count(attend)
    assert tally.total is None
    assert tally.dense_total is not None


def test_a_number_under_a_mask_is_followed_where_torch_fills_with_it() -> None:
    # From torch 2.15 on such an assignment is masked_fill_, which hides the future; before it is index_put_.
    fills = torch.__version__ >= (2, 15)
    assert count(indexed).total == (2 * CAUSAL * PAIR if fills else None)


@pytest.mark.parametrize(
    "mask",
    [
        lambda found: torch.where(LOWER, found, torch.full_like(found, INF)),
        lambda found: torch.where(LOWER, found, -9e15 * torch.ones_like(found)),
        lambda found: found - 1e30 * FUTURE.float(),
        lambda found: torch.add(found, FUTURE.float(), alpha=-1e30),
        lambda found: found * LOWER.float() - 1e10 * (1 - LOWER.float()),
        lambda found: found * LOWER.float() + -1e4 * (1 - LOWER.float()),
        lambda found: found.masked_fill(FUTURE, torch.tensor(INF)),
    ],
)
def test_other_ways_to_write_a_mask(mask: Callable[[Tensor], Tensor]) -> None:
    assert count(lambda: mask(scores()).softmax(-1) @ V).total == 2 * CAUSAL * PAIR


@pytest.mark.parametrize("attend", [lambda: F.linear(Q, K), lambda: torch.addmm(torch.zeros(16, 16), Q, K.T)])
def test_inference_mode_keeps_composite_calls(attend: Callable[[], Tensor]) -> None:
    with torch.inference_mode():
        tally = count(lambda: torch.where(LOWER, attend(), INF).softmax(-1) @ V)
    assert tally.total == 2 * CAUSAL * PAIR


def test_dropout_as_one_op() -> None:
    def run() -> None:
        query, key, value = (each.clone().requires_grad_() for each in (Q, K, V))
        weights, _ = torch.native_dropout(masked(query @ key.T), 0.1, True)
        (weights @ value).sum().backward()

    assert count(run).total == 3 * 2 * CAUSAL * PAIR


def test_numbers_that_hide_nothing() -> None:
    assert count(lambda: scores().masked_fill(FUTURE, torch.tensor(-1.0)).softmax(-1) @ V).total == 2 * ALL * PAIR
    assert count(lambda: (scores() + torch.arange(LENGTH) * -800.0).softmax(-1) @ V).total == 2 * ALL * PAIR


def test_a_layers_logits_are_no_scores() -> None:
    layer, x = nn.Linear(8, 10, bias=False), torch.randn(4, 8)
    with torch.autocast("cpu"):
        tally = count(lambda: layer(x).masked_fill(torch.arange(10) > 4, INF).softmax(-1))
    assert tally.total == 2 * 4 * 8 * 10


def test_uninitialised_memory_is_no_mask() -> None:
    with FakeTensorMode():
        query = torch.randn(1, 64, 8)
        assert count(lambda: (query @ query.mT + torch.empty(64, 64)).softmax(-1) @ query).total is None


def test_memory_that_is_filled_afterwards_is_known() -> None:
    with torch.device("meta"):
        query = torch.randn(1, 64, 8)
        tally = count(lambda: (query @ query.mT + torch.empty(64, 64).fill_(INF).triu_(1)).softmax(-1) @ query)
    assert tally.total == 2 * 64 * 65 // 2 * 2 * 8


def test_a_constant_that_a_list_op_writes_to_is_known_no_more() -> None:
    def run() -> None:
        mask = torch.zeros(64, 64)
        torch._foreach_add_([mask], [torch.randn(64, 64)])
        (query @ query.mT + mask).softmax(-1) @ query

    with torch.device("meta"):
        query = torch.randn(1, 64, 8)
        assert count(run).total is None


def test_heads_that_are_mixed_are_unknown() -> None:
    heads = torch.randn(2, 4, LENGTH, WIDTH)
    mix = nn.Parameter(torch.randn(4, 4))

    def before() -> Tensor:
        mixed = torch.einsum("bhij,hg->bgij", heads @ heads.mT, mix)
        return masked(mixed) @ heads

    def after() -> Tensor:
        return torch.einsum("bhij,hg->bgij", masked(heads @ heads.mT), mix) @ heads

    assert count(before).total is None
    assert count(after).total is None


def test_following_masks_keeps_no_tensor_alive() -> None:
    def peak(convention: Attention) -> int:
        engine = DispatchFlops(default_registry(convention))
        with engine, LiveStorage(engine.watch) as memory:
            scope = memory.begin()
            # The weights are kept, and what they were made of is not.
            kept = [
                masked((x := torch.randn(4, 4096)) @ x.T, torch.ones(4, 4, dtype=torch.bool).triu(1)) for _ in range(4)
            ]
            found = memory.end(scope)
        assert len(kept) == 4
        assert isinstance(found, tuple)
        return found[0].peak_bytes

    assert peak("causal") == peak("dense")


def test_attention_over_nothing_costs_nothing_and_runs() -> None:
    empty = torch.zeros(0, WIDTH)
    assert count(lambda: (empty @ empty.T).softmax(-1) @ empty).total == 0


def test_scores_that_become_sparse_do_no_harm() -> None:
    tally = count(lambda: torch.sparse.mm((Q @ K.T).masked_fill(FUTURE, 0.0).to_sparse(), V))
    # Kept are 136 numbers, each for 8 columns; masking by zero hides nothing of the first product.
    assert tally.total == ALL * PAIR + CAUSAL * 2 * WIDTH
