"""A budget that is for no test is told, but only by a run that would have found the test."""

from __future__ import annotations

import pytest

from pytest_flopguard.budgets.declared import Budget
from pytest_flopguard.budgets.unmatched import Covered, unmatched
from pytest_flopguard.core.expectation import Origin

NODEIDS = [
    "tests/test_gpt2.py::test_forward",
    "tests/test_gpt2.py::test_train[1]",
    "tests/test_gpt2.py::test_train[2]",
    "tests/vision/test_resnet.py::TestResnet::test_forward",
]


def budget(pattern: str) -> Budget:
    rank = "default" if pattern == "default-budget" else "glob" if "*" in pattern else "exact"
    return Budget(pattern=pattern, rank=rank, expectations=(), origin=Origin(path="pyproject.toml", line=9))  # type: ignore[arg-type]


def told(pattern: str, covered: Covered = "everything") -> list[str]:
    return [str(each) for each in unmatched([budget(pattern)], NODEIDS, covered)]


@pytest.mark.parametrize(
    "pattern",
    [
        "tests/test_gpt2.py::test_forward",
        "tests/test_gpt2.py::test_train",
        "tests/test_gpt2.py::test_train[2]",
        "tests/vision/*",
        "*::test_train",
        "default-budget",
    ],
)
def test_a_budget_that_covers_a_test_is_no_problem(pattern: str) -> None:
    assert told(pattern) == []


@pytest.mark.parametrize(
    ("pattern", "hint"),
    [
        ("tests/test_gpt2.py::test_forwrad", "; did you mean 'tests/test_gpt2.py::test_forward'?"),
        ("tests/test_gtp2.py::test_forward", "; did you mean 'tests/test_gpt2.py::test_forward'?"),
        ("tests/test_gpt2.py::test_train[3]", "; did you mean 'tests/test_gpt2.py::test_train[2]'?"),
        ("test_gpt2.py::test_train", "; did you mean 'tests/test_gpt2.py::test_train'?"),
        ("tests/test_gpt2.py", "; for all of its tests write 'tests/test_gpt2.py::*'"),
        ("tests/vision", "; for all of its tests write 'tests/vision/*'"),
        ("tests/vision/", "; for all of its tests write 'tests/vision/*'"),
        (
            "tests/vision/test_resnet.py::TestResnet",
            "; for all of its tests write 'tests/vision/test_resnet.py::TestResnet::*'",
        ),
        ("tests/visoin/test_resnet.py*", "; did you mean 'tests/vision/test_resnet.py'?"),
        ("audio/*", ""),
        ("x", ""),
    ],
)
def test_the_nearest_test_is_named(pattern: str, hint: str) -> None:
    assert told(pattern) == [f"pyproject.toml:9: the budget {pattern!r} matches no test{hint} [unmatched-budget]"]


def test_without_any_test_there_is_nothing_to_name() -> None:
    (problem,) = unmatched([budget("tests/*")], [], "everything")
    assert problem.text == "the budget 'tests/*' matches no test [unmatched-budget]"


@pytest.mark.parametrize(
    ("pattern", "told_of"),
    [
        ("tests/test_gpt2.py::test_gone", True),
        ("tests/test_gpt2.py::*_gone", True),
        ("tests/vision/test_resnet.py::test_gone", False),
        ("tests/test_gone.py::test_forward", False),
        # The tests of a glob over files may be in one that was not collected.
        ("tests/*::test_gone", False),
        ("tests/test_gpt?.py::test_gone*", False),
        ("*", False),
    ],
)
def test_a_partial_run_tells_only_what_it_had_to_find(pattern: str, told_of: bool) -> None:
    assert bool(told(pattern, lambda file: file == "tests/test_gpt2.py")) is told_of


def test_all_are_told_in_the_order_of_the_file() -> None:
    budgets = [budget("a.py::b"), budget("*::test_forward"), budget("c.py::d")]
    assert [each.text.split("'")[1] for each in unmatched(budgets, NODEIDS, "everything")] == ["a.py::b", "c.py::d"]
