from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_flopguard.formulas.query_key_pairs import causal_pairs, window_pairs

SIZE = st.integers(min_value=0, max_value=40)


@pytest.mark.parametrize(
    ("queries", "keys", "shift", "kept"),
    [
        (4, 4, 0, 10),  # 1 + 2 + 3 + 4
        (1, 8, 7, 8),  # a decoded token meets the whole cache
        (2, 5, 3, 9),  # 4 + 5: two new tokens after three
        (5, 2, 0, 9),  # 1 + 2 + 2 + 2 + 2: later queries meet both keys
        (3, 5, 0, 6),  # 1 + 2 + 3: keys 3 and 4 are in nobody's past
    ],
)
def test_causal(queries, keys, shift, kept):
    assert causal_pairs(queries, keys, shift) == kept


@given(SIZE)
def test_square_causal_is_the_triangle(size):
    assert causal_pairs(size, size) == size * (size + 1) // 2


@given(SIZE, st.integers(min_value=1, max_value=60))
def test_a_causal_window(size, window):
    # sum over i of min(i + 1, w) = S*w - w*(w - 1)/2 for w <= S; a wider window is the triangle.
    width = min(window, size)
    expected = size * width - width * (width - 1) // 2
    assert window_pairs(size, size, left=window - 1, right=0) == expected


@given(SIZE, SIZE, SIZE, SIZE, st.integers(min_value=-20, max_value=20))
def test_against_looking_at_each_pair(queries, keys, left, right, shift):
    seen = sum(i + shift - left <= j <= i + shift + right for i in range(queries) for j in range(keys))
    assert window_pairs(queries, keys, left=left, right=right, shift=shift) == seen


@given(SIZE, SIZE)
def test_open_on_both_sides_is_dense(queries, keys):
    assert window_pairs(queries, keys) == queries * keys
