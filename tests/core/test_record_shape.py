"""The shape of a report says where it is not kept."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_flopguard.core.record_shape import check_shape


@pytest.mark.parametrize(
    ("value", "shape"),
    [
        (2**70, int),
        ("", str),
        (None, (int, type(None))),
        (3, (int, type(None))),
        ({"a": 1, "b": 2}, {str: int}),
        ({}, {str: int}),
        ([1.5, None], object),
        ({"anything": [1.5]}, {str: object}),
        ([{"a": 1}], [{"a": int}]),
        ("x", frozenset({"x", "y"})),
    ],
)
def test_what_fits(value: object, shape: Any) -> None:
    check_shape(value, shape)


@pytest.mark.parametrize(
    ("value", "shape", "told"),
    [
        (True, int, "x is True, expected int"),
        (1.0, int, "x is 1.0, expected int"),
        (None, int, "x is None, expected int"),
        ("1", (int, type(None)), "x is '1', expected int"),
        ((1,), [int], r"x is \(1,\), expected list"),
        ([1, "2"], [int], r"x\[1\] is '2', expected int"),
        ([[1, 2], [3]], [[int, int]], r"x\[1\] has 1 entries, expected 2"),
        ([[1, 2, 3]], [[int, int]], r"x\[0\] has 3 entries, expected 2"),
        ([], {str: int}, r"x is \[\], expected a table"),
        ({"a": {"b": None}}, {str: {"b": int}}, r"x\['a'\]\.b is None, expected int"),
        ({"a": 1}, {"a": int, "b": int, "c": int}, "x lacks b, c"),
        ({"a": 1, "z": 1}, {"a": int}, "x holds z, which this version does not know"),
        ("z", frozenset({"x", "y"}), "x is 'z', expected one of x, y"),
        (7, frozenset({"x"}), "x is 7, expected one of x"),
        ("a" * 99, int, r"x is 'a{38}…, expected int"),
    ],
)
def test_what_does_not_fit_is_told_by_its_place(value: object, shape: Any, told: str) -> None:
    with pytest.raises(ValueError, match=f"^{told}$"):
        check_shape(value, shape, "x")
