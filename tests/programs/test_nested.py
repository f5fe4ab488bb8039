"""Batches of sequences of different lengths: the work of each length, not of a padded batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from pytest_flopguard.core.measurement import FlopTally

Count = Callable[[Callable[[], Any]], FlopTally]
LENGTHS = (2, 3)
LAYOUTS = pytest.mark.parametrize("layout", [torch.jagged, torch.strided])
SETTINGS = pytest.mark.parametrize("setting", [torch.enable_grad, torch.no_grad, torch.inference_mode])
pytestmark = pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")


def batch(layout: torch.layout, width: int = 8, grad: bool = False) -> Tensor:
    rows = [torch.ones(length, width) for length in LENGTHS]
    return torch.nested.nested_tensor(rows, layout=layout, requires_grad=grad)


@LAYOUTS
@SETTINGS
def test_a_linear_layer_sees_five_rows(count: Count, layout: torch.layout, setting: Any) -> None:
    with setting():
        tally = count(lambda: nn.Linear(8, 4)(batch(layout)))
    # [2 + 3, 8] @ [8, 4]
    assert (tally.total, tally.unknown_ops) == (2 * 5 * 8 * 4, ())


@LAYOUTS
def test_its_gradients_are_as_much_each(count: Count, layout: torch.layout) -> None:
    def program() -> None:
        out = nn.Linear(8, 4)(batch(layout, grad=True))
        sum(each.sum() for each in out.unbind()).backward()

    tally = count(program)
    assert (tally.forward, tally.backward) == (320, 2 * 320)


def heads(x: Tensor) -> Tensor:
    return x.unflatten(-1, [2, 8]).transpose(1, 2)


def by_length(layout: torch.layout) -> list[Tensor]:
    if layout == torch.jagged:
        return [heads(batch(layout, 16)) for _ in "qkv"]
    return [torch.nested.nested_tensor([torch.ones(2, n, 8) for n in LENGTHS]) for _ in "qkv"]


@LAYOUTS
@SETTINGS
def test_attention_is_within_each_sequence(count: Count, layout: torch.layout, setting: Any) -> None:
    with setting():
        tally = count(lambda: scaled_dot_product_attention(*by_length(layout)))
    # 2 heads; 2*2 and 3*3 pairs of queries and keys, sums of 8 and 8.
    assert (tally.total, tally.unknown_ops) == (2 * 2 * (2 * 2 + 3 * 3) * (8 + 8), ())


def test_the_gradient_of_attention_is_twice_that(count: Count) -> None:
    x = batch(torch.jagged, 16, grad=True)
    tally = count(lambda: scaled_dot_product_attention(heads(x), heads(x), heads(x)).values().sum().backward())
    assert (tally.forward, tally.backward) == (832, 2 * 832)


def test_an_encoder_that_packs_padded_sequences(count: Count) -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    encoder = nn.TransformerEncoder(layer, 2).eval()
    mask = torch.tensor([[False, False, True], [False, False, False]])
    with torch.no_grad():
        tally = count(lambda: encoder(torch.ones(2, 3, 8), src_key_padding_mask=mask))
    # 5 rows through [8, 24], [8, 8], [8, 16] and [16, 8]; 2 heads of 4: 2*2 + 3*3 pairs, sums of 4 and 4. Twice.
    assert tally.total == 2 * (2 * 5 * 8 * (24 + 8 + 16 + 16) + 2 * 2 * 13 * (4 + 4))
    assert tally.unknown_ops == ()


def test_an_op_that_is_not_known_to_work_by_component_is_unknown(count: Count) -> None:
    (unknown,) = count(lambda: torch.bmm(batch(torch.strided), batch(torch.strided).transpose(1, 2))).unknown_ops
    assert unknown.op == "aten.bmm"
    assert unknown.reason == "a nested tensor's shape is not one shape"
