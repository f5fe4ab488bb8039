"""Which budget holds for a test, and why the others do not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_flopguard.budgets.declared import Budget, Rank
from pytest_flopguard.budgets.resolve import Resolution, covers, resolve, without_parameters
from pytest_flopguard.core.expectation import Expectation, Origin, Quantity


def budget(pattern: str, *quantities: Quantity, rank: Rank | None = None, devices: tuple[str, ...] = ()) -> Budget:
    origin = Origin(path="pyproject.toml", line=1, text=pattern)
    return Budget(
        pattern=pattern,
        rank=rank or ("glob" if set("*?") & set(pattern) else "exact"),
        expectations=tuple(
            Expectation(quantity=quantity, high=1, origin=origin, device=device)
            for quantity in quantities or ("flops",)
            for device in devices or (None,)
        ),
        origin=origin,
    )


DEFAULT = budget("default-budget", rank="default")
MARKER = budget("flop_budget", rank="marker")


def told(resolution: Resolution) -> list[tuple[str, str, list[tuple[str, str]]]]:
    return [
        (each.quantity, each.winner.pattern, [(lost.budget.pattern, lost.reason) for lost in each.losers])
        for each in resolution.choices
    ]


@pytest.mark.parametrize(
    ("pattern", "nodeid", "fits"),
    [
        ("tests/t.py::test_f", "tests/t.py::test_f", True),
        ("tests/t.py::test_f", "tests/t.py::test_f[a]", True),
        ("tests/t.py::test_f", "tests/t.py::test_f[a::b[c]]", True),
        ("tests/t.py::test_f[a]", "tests/t.py::test_f[a]", True),
        ("tests/t.py::test_f[a]", "tests/t.py::test_f", False),
        ("tests/t.py::test_f[a]", "tests/t.py::test_f[b]", False),
        ("tests/t.py::test", "tests/t.py::test_f", False),
        ("tests/t.py", "tests/t.py::test_f", False),
        ("t.py::test_f", "tests/t.py::test_f", False),
        ("tests/*", "tests/a/t.py::TestX::test_f[a]", True),
        ("tests/*::test_f", "tests/t.py::test_f[a]", True),
        ("tests/*::test_f", "tests/t.py::test_fg", False),
        ("*[a]", "tests/t.py::test_f[a]", True),
        ("*[ab]", "tests/t.py::test_f[a]", False),
        ("*[!b]", "tests/t.py::test_f[a]", False),
        ("*::test_?", "tests/t.py::test_f", True),
        ("*::test_?", "tests/t.py::test_", False),
        ("*::Test_F", "tests/t.py::test_f", False),
        ("*.py::test_f", "tests/tXpy::test_f", False),
    ],
)
def test_a_pattern_covers_its_tests_with_and_without_parameters(pattern: str, nodeid: str, fits: bool) -> None:
    assert covers(budget(pattern), nodeid) is fits


def test_the_default_covers_everything() -> None:
    assert covers(DEFAULT, "anything")


@pytest.mark.parametrize(
    ("nodeid", "bare"),
    [
        ("t.py::test_f", "t.py::test_f"),
        ("t.py::test_f[a]", "t.py::test_f"),
        ("t.py::TestX::test_f[a::b]", "t.py::TestX::test_f"),
        ("a[b]/t.py::test_f[c]", "a[b]/t.py::test_f"),
        ("README.md", "README.md"),
    ],
)
def test_parameters_are_cut_from_the_name_only(nodeid: str, bare: str) -> None:
    assert without_parameters(nodeid) == bare


FULL, BARE = budget("t.py::test_f[a]"), budget("t.py::test_f")
GLOB, WIDE = budget("t.py::*"), budget("*")


@pytest.mark.parametrize(
    ("markers", "declared", "winner", "losers"),
    [
        (
            [MARKER],
            [DEFAULT, GLOB, BARE],
            "flop_budget",
            [
                ("t.py::test_f", "a marker comes before an exact node id"),
                ("t.py::*", "a marker comes before a glob"),
                ("default-budget", "a marker comes before the default"),
            ],
        ),
        ([], [GLOB, BARE], "t.py::test_f", [("t.py::*", "an exact node id comes before a glob")]),
        ([], [DEFAULT, WIDE], "*", [("default-budget", "a glob comes before the default")]),
        ([], [DEFAULT], "default-budget", []),
        (
            [],
            [BARE, FULL],
            "t.py::test_f[a]",
            [("t.py::test_f", "a node id with its parameters comes before one without")],
        ),
        (
            [],
            [FULL, BARE],
            "t.py::test_f[a]",
            [("t.py::test_f", "a node id with its parameters comes before one without")],
        ),
        # "t.py::*" has six literal characters, "*" none.
        ([], [GLOB, WIDE], "t.py::*", [("*", "a glob with more literal characters comes first (6 against 0)")]),
        ([], [WIDE, GLOB], "t.py::*", [("*", "a glob with more literal characters comes first (6 against 0)")]),
    ],
)
def test_the_closest_budget_holds(
    markers: list[Budget], declared: list[Budget], winner: str, losers: list[tuple[str, str]]
) -> None:
    resolution = resolve("t.py::test_f[a]", markers, declared)
    assert told(resolution) == [("flops", winner, losers)]
    assert resolution.expectations == resolution.choices[0].winner.expectations


def test_of_two_equal_globs_the_later_one_holds() -> None:
    one, other = budget("t.p*"), budget("t*_f")
    assert told(resolve("t.py::test_f", [], [one, other])) == [
        ("flops", "t*_f", [("t.p*", "of two globs with as many literal characters the later one comes first")])
    ]
    assert resolve("t.py::test_f", [], [other, one]).choices[0].winner is one


def test_of_two_markers_the_closer_one_holds() -> None:
    far = budget("flop_budget", rank="marker")
    (choice,) = resolve("t.py::test_f", [MARKER, far], []).choices
    assert choice.winner is MARKER
    assert choice.losers[0].budget is far
    assert choice.losers[0].reason == "a closer marker comes first"


def test_each_quantity_is_chosen_by_itself() -> None:
    marker = budget("flop_budget", "flops", rank="marker")
    exact = budget("t.py::test_f", "flops", "peak_memory", devices=("cpu", "cuda"))
    default = budget("default-budget", "parameters", "peak_memory", rank="default")
    resolution = resolve("t.py::test_f", [marker], [default, exact])
    assert told(resolution) == [
        ("flops", "flop_budget", [("t.py::test_f", "a marker comes before an exact node id")]),
        ("peak_memory", "t.py::test_f", [("default-budget", "an exact node id comes before the default")]),
        ("parameters", "default-budget", []),
    ]
    chosen = [(each.quantity, each.device) for each in resolution.expectations]
    assert chosen == [("flops", None), ("peak_memory", "cpu"), ("peak_memory", "cuda"), ("parameters", None)]
    assert resolution.choices[1].losers[0].expectations == default.of("peak_memory")


def test_a_test_without_a_budget_has_no_expectations() -> None:
    resolution = resolve("t.py::test_g", [], [BARE])
    assert (resolution.nodeid, resolution.choices, resolution.expectations) == ("t.py::test_g", (), ())


PATTERNS = ["t.py::test_f[a]", "t.py::test_f", "t.py::*", "*::test_f", "*", "t.?y::test_f[a]", "other.py::*"]


@given(st.permutations(PATTERNS), st.integers(0, len(PATTERNS)))
def test_the_order_of_the_file_decides_between_equals_only(order: list[str], size: int) -> None:
    chosen = [budget(each) for each in order[:size]]
    resolution = resolve("t.py::test_f[a]", [], chosen)
    again = resolve("t.py::test_f[a]", [], list(reversed(chosen)))
    # No two of these patterns have the same rank and as many literal characters.
    assert [each.winner.pattern for each in resolution.choices] == [each.winner.pattern for each in again.choices]
    told_of = {each.winner.pattern for each in resolution.choices} | {
        lost.budget.pattern for each in resolution.choices for lost in each.losers
    }
    assert told_of == {each.pattern for each in chosen} - {"other.py::*"}
