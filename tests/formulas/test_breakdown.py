from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_flopguard.core.errors import SizeError
from pytest_flopguard.formulas.breakdown import Breakdown, Term

SIZES = st.integers(min_value=0, max_value=10**18)


def layer(each: int = 100) -> Breakdown:
    return Breakdown(
        name="layer",
        terms=(Term(name="qkv", equation="6*s*h*h", each=each), Term(name="mlp", equation="16*s*h*h", each=2 * each)),
        symbols={"s": 1},
    )


def head() -> Breakdown:
    return Breakdown(name="head", terms=(Term(name="lm_head", equation="2*s*h*V", each=7),), symbols={"V": 3})


def test_terms_sum():
    # 3 layers of 100 + 200, and a head of 7: 3 * 300 + 7 = 907; backward is twice that.
    model = 3 * layer() + head()
    assert model.forward == 907
    assert model.backward == 1814
    assert model.training_step == 2721
    assert model.by_name() == {"mlp": 600, "qkv": 300, "lm_head": 7}
    assert dict(model.symbols) == {"s": 1, "V": 3}


def test_a_term_whose_input_needs_no_gradient():
    # The first convolution of an image model has a weight gradient only: 5 forward, 5 backward.
    first = Breakdown(name="stem", terms=(Term(name="patch", equation="", each=5, backward_each=5),))
    assert (2 * first).backward == 10
    assert (2 * first).training_step == 20


def test_equal_terms_are_joined_and_others_kept_apart():
    # 2 layers of one kind and 1 of another: the equal ones are one row of 2 occurrences.
    model = layer() + layer() + layer(50)
    assert [(each.name, each.each, each.times) for each in model] == [
        ("qkv", 100, 2),
        ("mlp", 200, 2),
        ("qkv", 50, 1),
        ("mlp", 100, 1),
    ]


@given(SIZES, st.integers(min_value=0, max_value=1000), st.integers(min_value=0, max_value=1000))
def test_repeating_distributes_over_joining(size, first, second):
    joined = first * layer(size) + second * layer(size)
    assert joined.forward == ((first + second) * layer(size)).forward
    assert joined.backward == 2 * joined.forward


@pytest.mark.parametrize("wrong", [-1, 1.0, True, "3"])
def test_only_whole_numbers(wrong):
    with pytest.raises(SizeError, match="a whole number, 0 or more"):
        Term(name="mlp", equation="", each=wrong)


def test_a_fraction_of_a_model_is_refused():
    with pytest.raises(TypeError):
        0.5 * layer()


def test_recompute():
    # 3 layers of 100 + 200 and a head of 7: all but the head again is 900 of 907, a layer's qkv alone 300.
    model = 3 * layer() + head()
    assert model.recompute == 0
    assert model.recomputed().recompute == 907
    assert model.recomputed(but=("lm_head",)).recompute == 900
    again = model.recomputed("qkv")
    assert (again.recompute, again.training_step, again.hardware_step) == (300, 2721, 3021)
    assert (2 * again).recompute == 600


def test_recompute_is_a_whole_number():
    with pytest.raises(SizeError, match="the recomputed FLOPs of 'x' = -1"):
        Term(name="x", equation="", each=1, recompute_each=-1)
