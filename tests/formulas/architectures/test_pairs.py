from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_flopguard.core.errors import SizeError
from pytest_flopguard.formulas.architectures.pairs import causal_pairs, convention, dense_pairs

LENGTHS = st.integers(min_value=0, max_value=80)


def test_dense():
    # 3 queries with 5 keys each.
    assert dense_pairs(3, 5) == (15, "s*t")


@pytest.mark.parametrize(
    ("queries", "past", "window", "pairs"),
    [
        (4, 0, 0, 10),  # 1 + 2 + 3 + 4
        (4, 0, 2, 7),  # 1 + 2 + 2 + 2
        (4, 0, 4, 10),  # the window is as long as the sequence
        (4, 0, 1, 4),  # each sees itself
        (2, 3, 0, 9),  # 4 + 5
        (3, 3, 5, 14),  # 4 + 5 + 5
        (3, 9, 5, 15),  # the window is full before the first
        (1, 7, 0, 8),
    ],
)
def test_causal(queries, past, window, pairs):
    assert causal_pairs(queries, past, window)[0] == pairs


@given(queries=LENGTHS, past=LENGTHS, window=LENGTHS)
def test_causal_is_the_sum_over_queries(queries, past, window):
    expected = sum(min(past + i + 1, window or past + i + 1) for i in range(queries))
    pairs, equation = causal_pairs(queries, past, window)
    assert pairs == expected
    assert eval(equation, {}, {"s": queries, "p": past}) == expected


@given(queries=LENGTHS, past=LENGTHS, window=LENGTHS)
def test_causal_is_never_more_than_dense(queries, past, window):
    assert causal_pairs(queries, past, window)[0] <= dense_pairs(queries, past + queries)[0]


def test_another_convention_is_refused():
    assert convention("causal") == "causal"
    with pytest.raises(SizeError, match=r"attention = 'half': expected 'dense' or 'causal' \[bad-size\]"):
        convention("half")
