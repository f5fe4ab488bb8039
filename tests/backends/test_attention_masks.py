"""The causal convention: what attention masks hide, whoever applies them and wherever the tensors are."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention.flex_attention import create_block_mask, flex_attention
from torch.utils.checkpoint import checkpoint

from pytest_flopguard.backends.attention_trail import NO_VALUES
from pytest_flopguard.backends.dispatch import DispatchFlops
from pytest_flopguard.core.measurement import FlopTally
from pytest_flopguard.formulas.registry import default_registry

BATCH, HEADS, LENGTH, WIDTH = 2, 4, 16, 8
# Scores and values, 2 FLOPs for each of WIDTH; backward is twice that.
PER_PAIR = BATCH * HEADS * 2 * 2 * WIDTH * 3
DENSE = PER_PAIR * LENGTH * LENGTH
CAUSAL = PER_PAIR * LENGTH * (LENGTH + 1) // 2
Mask = Callable[[], Tensor]


@pytest.fixture(params=["cpu", "meta", "fake"])
def place(request: pytest.FixtureRequest) -> Iterator[str]:
    mode = FakeTensorMode() if request.param == "fake" else nullcontext()
    with mode, torch.device("meta" if request.param == "meta" else "cpu"):
        yield request.param


def count(function: Callable[[], Any]) -> FlopTally:
    with DispatchFlops(default_registry("causal")) as engine:
        mark = engine.begin()
        function()
        return engine.end(mark)


def operands(*shape: int) -> tuple[Tensor, Tensor, Tensor]:
    size = shape or (BATCH, HEADS, LENGTH, WIDTH)
    return tuple(torch.randn(size, requires_grad=True) for _ in range(3))  # type: ignore[return-value]


def lower() -> Tensor:
    return torch.ones(LENGTH, LENGTH, dtype=torch.bool).tril()


def by_positions() -> Tensor:
    at = torch.arange(LENGTH)
    return at[:, None] >= at[None, :]


def window_of_four() -> Tensor:
    at = torch.arange(LENGTH)
    return by_positions() & (at[:, None] - at[None, :] < 4)


def written_out(apply: Callable[[Tensor], Tensor]) -> None:
    query, key, value = operands()
    scores = apply(query @ key.transpose(-1, -2) / WIDTH**0.5)
    weights = F.dropout(scores.softmax(-1, dtype=torch.float32).to(value.dtype), 0.1)
    (weights @ value).sum().backward()


def fused(**options: Any) -> None:
    F.scaled_dot_product_attention(*operands(), **options).sum().backward()


def added(mask: Tensor, fill: float) -> Tensor:
    return torch.zeros(LENGTH, LENGTH).masked_fill(~mask, fill)


WAYS: dict[str, Callable[[Mask], None]] = {
    "fused, bool": lambda mask: fused(attn_mask=mask()),
    "fused, float": lambda mask: fused(attn_mask=added(mask(), float("-inf"))),
    "filled": lambda mask: written_out(lambda scores: scores.masked_fill(~mask(), float("-inf"))),
    "filled in place": lambda mask: written_out(lambda scores: scores.clone().masked_fill_(~mask(), -1e9)),
    "chosen": lambda mask: written_out(lambda scores: torch.where(mask(), scores, torch.finfo(scores.dtype).min)),
    "added": lambda mask: written_out(lambda scores: scores + added(mask(), torch.finfo(scores.dtype).min)),
    "capped, then added": lambda mask: written_out(
        lambda scores: torch.tanh(scores / 50.0) * 50.0 + added(mask(), float("-inf"))
    ),
    "baddbmm": lambda mask: with_baddbmm(mask()),
    "einsum": lambda mask: with_einsum(mask()),
}


def with_baddbmm(mask: Tensor) -> None:
    query, key, value = operands(BATCH * HEADS, LENGTH, WIDTH)
    bias = added(mask, float("-inf")).expand(BATCH * HEADS, LENGTH, LENGTH)
    torch.bmm(torch.baddbmm(bias, query, key.transpose(1, 2)).softmax(-1), value).sum().backward()


def with_einsum(mask: Tensor) -> None:
    query, key, value = operands()
    scores = torch.einsum("bhid,bhjd->bhij", query, key).masked_fill(~mask, float("-inf"))
    torch.einsum("bhij,bhjd->bhid", scores.softmax(-1), value).sum().backward()


@pytest.mark.parametrize("way", WAYS)
# 1 + 2 + ... + 16 pairs; in a window of 4, 1 + 2 + 3 + 13 * 4 of them.
@pytest.mark.parametrize(("mask", "pairs"), [(lower, 136), (by_positions, 136), (window_of_four, 58)])
def test_every_way_to_mask_counts_the_same(place: str, way: str, mask: Mask, pairs: int) -> None:
    tally = count(lambda: WAYS[way](mask))
    assert tally.unknown_ops == ()
    assert (tally.total, tally.dense_total) == (PER_PAIR * pairs, DENSE)
    assert tally.backward == 2 * (tally.forward or 0)


def test_the_flag_of_the_fused_call(place: str) -> None:
    tally = count(lambda: fused(is_causal=True))
    assert (tally.total, tally.dense_total) == (CAUSAL, DENSE)
    assert sum(tally.by_op().values()) == CAUSAL


@pytest.mark.parametrize("way", [lambda: fused(), lambda: written_out(lambda scores: scores)], ids=["fused", "written"])
def test_without_a_mask_both_conventions_agree(place: str, way: Callable[[], None]) -> None:
    tally = count(way)
    assert tally.total == tally.dense_total == DENSE


def test_a_bias_that_hides_nothing(place: str) -> None:
    slopes = torch.arange(LENGTH) * -0.5  # as ALiBi does
    assert count(lambda: written_out(lambda scores: scores + slopes)).total == (DENSE if place == "cpu" else None)
    assert count(lambda: written_out(lambda scores: scores + torch.arange(LENGTH) * -0.5)).total == DENSE


def test_two_masks_hide_what_either_hides(place: str) -> None:
    # Causal, and nobody sees the last 6 keys: 1 + ... + 10, then 10 each for the other 6 queries.
    def both(scores: Tensor) -> Tensor:
        padding = torch.arange(LENGTH) >= 10
        return scores.masked_fill(~lower(), float("-inf")).masked_fill(padding, float("-inf"))

    assert count(lambda: written_out(both)).total == PER_PAIR * (55 + 60)


def test_recomputed_attention_is_masked_too() -> None:
    def run() -> None:
        query, key, value = operands()

        def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            scores = (query @ key.transpose(-1, -2)).masked_fill(~lower(), float("-inf"))
            return scores.softmax(-1) @ value

        checkpoint(attend, query, key, value, use_reentrant=True).sum().backward()  # type: ignore[union-attr]

    tally = count(run)
    assert (tally.forward, tally.recompute, tally.backward) == (CAUSAL // 3, CAUSAL // 3, 2 * CAUSAL // 3)


def test_scores_that_get_a_sink_before_softmax() -> None:
    # One more column that belongs to no key, dropped after softmax, as gpt-oss does.
    def run() -> None:
        query, key, value = operands()
        scores = (query @ key.transpose(-1, -2)).masked_fill(~lower(), float("-inf"))
        sink = torch.zeros(BATCH, HEADS, LENGTH, 1)
        weights = torch.cat([scores, sink], dim=-1).softmax(-1)[..., :-1]
        (weights @ value).sum().backward()

    assert count(run).total == CAUSAL


@pytest.mark.parametrize("place", ["meta", "fake"], indirect=True)
@pytest.mark.parametrize("way", ["fused, bool", "filled", "added"])
def test_a_mask_without_values_is_unknown_and_the_dense_total_known(place: str, way: str) -> None:
    given = lower()  # made before the region, where nobody looked
    tally = count(lambda: WAYS[way](lambda: given))
    assert tally.total is None
    assert {each.reason for each in tally.unknown_ops} == {NO_VALUES}
    assert tally.dense_total == DENSE
    assert tally.at_least == 0


def test_a_random_mask_without_values_is_unknown() -> None:
    with torch.device("meta"):
        tally = count(lambda: fused(attn_mask=torch.rand(LENGTH, LENGTH) > 0.5))
    assert tally.total is None
    assert tally.dense_total == DENSE


def test_a_mask_that_was_overwritten_by_unknown_values_is_unknown() -> None:
    with torch.device("meta"):
        given = torch.ones(LENGTH, LENGTH, dtype=torch.bool)
        tally = count(lambda: fused(attn_mask=lower().copy_(given)))
    assert tally.total is None


def test_a_mask_of_another_shape_than_its_scores_is_unknown() -> None:
    # The scores of 2 * 4 heads are laid out as 16 * 8 before they are masked: nothing says which pair is which.
    def run() -> None:
        query, key, value = operands()
        scores = (query @ key.transpose(-1, -2)).flatten()[: BATCH * HEADS * LENGTH * LENGTH // 2]
        weights = scores.masked_fill(scores > 0, float("-inf")).softmax(-1).view(BATCH, HEADS, LENGTH // 2, LENGTH)
        weights @ value

    tally = count(run)
    assert tally.total is None
    assert tally.dense_total == BATCH * HEADS * 2 * WIDTH * (LENGTH * LENGTH + LENGTH // 2 * LENGTH)


def test_a_router_is_no_attention() -> None:
    # A layer's product, masked and put through softmax: experts, and no pairs.
    layer, x = nn.Linear(8, 4), torch.randn(6, 8)

    def run() -> None:
        layer(x).masked_fill(torch.tensor([True, False, False, True]), float("-inf")).softmax(-1)

    assert count(run).total == count(run).dense_total == 2 * 6 * 8 * 4


def test_the_encoder_layers_fast_path() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    x = torch.randn(2, 5, 8)
    with torch.no_grad():
        assert count(lambda: layer(x)).total == count(lambda: layer(x)).dense_total
        masked = count(lambda: layer(x, src_mask=nn.Transformer.generate_square_subsequent_mask(5)))
    assert (masked.total, masked.dense_total) == (None, count(lambda: layer(x)).total)
    assert [each.reason for each in masked.unknown_ops] == ["masks of the fused encoder layer are not followed"]


def test_inference_mode() -> None:
    with torch.inference_mode():
        query = torch.randn(BATCH, HEADS, LENGTH, WIDTH)
        tally = count(lambda: F.scaled_dot_product_attention(query, query, query, is_causal=True))
    assert (tally.total, tally.dense_total) == (CAUSAL // 3, DENSE // 3)


def test_decoding_with_a_cache() -> None:
    # One new query meets all 16 keys: the mask has one row and hides nothing.
    query = torch.randn(BATCH, HEADS, 1, WIDTH)
    key = torch.randn(BATCH, HEADS, LENGTH, WIDTH)
    mask = torch.ones(1, LENGTH, dtype=torch.bool)
    tally = count(lambda: F.scaled_dot_product_attention(query, key, key, attn_mask=mask))
    assert tally.total == tally.dense_total == PER_PAIR // 3 * LENGTH


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
class TestFlexAttention:
    """Masks of flex_attention are functions of positions."""

    @staticmethod
    def run(mask: Callable[..., Tensor], batches: int | None = None, heads: int | None = None) -> FlopTally:
        query = torch.randn(BATCH, HEADS, 48, WIDTH)
        block_mask = create_block_mask(mask, batches, heads, 48, 48, device="cpu", BLOCK_SIZE=16)
        return count(lambda: flex_attention(query, query, query, block_mask=block_mask))

    def test_causal(self) -> None:
        assert self.run(lambda b, h, i, j: i >= j).total == PER_PAIR // 3 * 48 * 49 // 2

    def test_a_window(self) -> None:
        # 48 * 8 - 8 * 7 / 2 pairs.
        assert self.run(lambda b, h, i, j: (i >= j) & (i - j < 8)).total == PER_PAIR // 3 * (48 * 8 - 28)

    def test_documents_that_do_not_see_each_other(self) -> None:
        # Documents of 16 and 32 tokens: 16 * 17 / 2 + 32 * 33 / 2 pairs.
        document = torch.tensor([0] * 16 + [1] * 32)
        tally = self.run(lambda b, h, i, j: (i >= j) & (document[i] == document[j]))
        assert tally.total == PER_PAIR // 3 * (136 + 528)

    def test_a_mask_of_its_own_for_each_head(self) -> None:
        # Head h sees keys j <= 12 * h + 11: 12, 24, 36, 48 keys for each of 48 queries, in both batches.
        tally = self.run(lambda b, h, i, j: j <= 12 * h + 11, BATCH, HEADS)
        assert tally.total == BATCH * 48 * (12 + 24 + 36 + 48) * 2 * 2 * WIDTH

    def test_no_mask(self) -> None:
        query = torch.randn(BATCH, HEADS, LENGTH, WIDTH)
        tally = count(lambda: flex_attention(query, query, query))
        assert tally.total == tally.dense_total == DENSE // 3


def test_masks_change_nothing_that_runs() -> None:
    torch.manual_seed(0)
    query, key, value = operands()
    mask = lower()

    def run() -> Tensor:
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)

    found: list[Tensor] = []
    count(lambda: found.append(run()))
    assert torch.equal(found[0], run())
    assert torch.equal(mask, lower())


def test_another_thread() -> None:
    def run() -> None:
        thread = threading.Thread(target=lambda: fused(attn_mask=lower()))
        thread.start()
        thread.join()

    assert count(run).total == CAUSAL
