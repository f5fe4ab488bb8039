"""Linear attention: closed forms, small models counted, and where the order of the products pays."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from zoo.blockwise import BlockwiseAttention
from zoo.linear_attention import (
    CosformerAttention,
    LinearAttention,
    NormAttention,
    PerformerAttention,
    RandomFeatureAttention,
)

from pytest_flopguard.core.errors import SizeError
from pytest_flopguard.formulas.architectures.linear_attention import (
    cosformer,
    left_product,
    linear_transformer,
    performer,
    rfa,
    right_product,
)
from pytest_flopguard.formulas.architectures.mixer import projections
from pytest_flopguard.formulas.architectures.sparse_attention import blockwise, softmax

B, N, D, H = 2, 48, 32, 4
SIZES = {"batch": 3, "seq": 10, "width": 8, "heads": 2}

ALL = {
    "left": left_product(**SIZES),
    "right": right_product(**SIZES),
    "linear transformer": linear_transformer(**SIZES),
    "cosformer": cosformer(**SIZES),
    "performer": performer(**SIZES, features=5),
    "rfa": rfa(**SIZES, features=5),
}


@pytest.mark.parametrize("name", ALL)
def test_equations(equations_hold, name):
    equations_hold(ALL[name])


def test_by_hand():
    # 3 x 10 positions, 8 wide in 2 heads of 4.
    assert ALL["left"].forward == 4 * 3 * 10 * 10 * 8
    # A head's state is 4 x 4: 2*30*4*4 = 960 for each of 2 heads, to write and to read.
    assert ALL["right"].by_name() == {"state_read": 1_920, "state_update": 1_920}
    # 2*30*8 = 480 for the normaliser.
    assert ALL["linear transformer"].forward == 2 * 1_920 + 480
    assert ALL["cosformer"].forward == 2 * (2 * 1_920 + 480)
    # Directions 2*30*5*8 = 2,400 for q and for k; a state of 5 x 4 costs the same 2,400; the normaliser 2*30*5*2 = 600.
    assert ALL["performer"].by_name() == {
        "features": 4_800,
        "state_read": 2_400,
        "state_update": 2_400,
        "normalizer": 600,
    }
    assert ALL["performer"].backward == 2 * ALL["performer"].forward - 4_800
    # The same directions, 10 features of them.
    assert ALL["rfa"].forward == 4_800 + 2 * 4_800 + 1_200
    assert ALL["rfa"].backward == 2 * ALL["rfa"].forward


def of(form, **more):
    return projections(batch=B, seq=N, width=D) + form(batch=B, seq=N, width=D, heads=H, **more)


CASES = {
    "left": (lambda: NormAttention(D, H, left=True), of(left_product)),
    "right": (lambda: NormAttention(D, H, left=False), of(right_product)),
    "linear transformer": (lambda: LinearAttention(D, H), of(linear_transformer)),
    "cosformer": (lambda: CosformerAttention(D, H), of(cosformer)),
    "performer": (lambda: PerformerAttention(D, H, 12), of(performer, features=12)),
    "rfa": (lambda: RandomFeatureAttention(D, H, 12), of(rfa, features=12)),
}


@pytest.mark.parametrize("name", CASES)
def test_measured(measured, tokens, name):
    build, form = CASES[name]
    assert measured(build(), tokens(B, N, D)) == (form.forward, form.backward)


def test_diagonal_attention_of_transnormer_is_blockwise(measured, tokens):
    # Its first half of layers: softmax attention inside blocks.
    form = projections(batch=B, seq=N, width=D) + blockwise(batch=B, seq=N, width=D, blocks=6)
    assert measured(BlockwiseAttention(D, H, 6), tokens(B, N, D)) == (form.forward, form.backward)


@pytest.mark.parametrize("length", [4, 8, 16])
def test_the_orders_cross_where_n_is_a_heads_width(measured, tokens, length):
    # d/h = 32/4 = 8: shorter texts are cheaper from the left, longer ones from the right.
    left = measured(NormAttention(D, H, left=True), tokens(1, length, D)).forward
    right = measured(NormAttention(D, H, left=False), tokens(1, length, D)).forward
    assert left - right == 4 * length * D * (length - 8)
    assert (left > right) == (length > 8)


@given(st.integers(1, 4096), st.integers(1, 256), st.integers(1, 16))
def test_right_is_cheaper_just_where_n_is_more_than_a_heads_width(length, head, heads):
    sizes = {"seq": length, "width": head * heads, "heads": heads}
    left, right = left_product(**sizes).forward, right_product(**sizes).forward
    assert (left > right, left == right) == (length > head, length == head)
    assert left == softmax(seq=length, width=head * heads).forward


@pytest.mark.parametrize("name", CASES)
def test_growth(measured, tokens, slope, name):
    lengths, build = (64, 128, 512), CASES[name][0]
    counts = [
        measured(build(), tokens(1, n, D), backward=False).forward - projections(seq=n, width=D).forward
        for n in lengths
    ]
    assert slope(lengths, counts) == pytest.approx(2 if name == "left" else 1, abs=1e-9)


@pytest.mark.parametrize(
    "form",
    [
        lambda: left_product(seq=4, width=10, heads=4),
        lambda: right_product(seq=4, width=10, heads=4),
        lambda: linear_transformer(seq=4, width=10, heads=4),
        lambda: cosformer(seq=4, width=10, heads=4),
        lambda: performer(seq=4, width=10, heads=4, features=2),
        lambda: rfa(seq=4, width=10, heads=4, features=2),
    ],
)
def test_heads_divide_the_width(form):
    with pytest.raises(SizeError, match="width = 10: expected a multiple of heads = 4"):
        form()


def test_no_features():
    with pytest.raises(SizeError, match="features"):
        performer(seq=4, width=8, heads=4, features=0)
