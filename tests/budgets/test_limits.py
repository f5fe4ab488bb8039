"""What a budget may say of one quantity, in pyproject.toml and in a marker, and what is refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_flopguard.budgets.declared import read_marker
from pytest_flopguard.budgets.marker_origin import MarkerOrigin
from pytest_flopguard.budgets.settings import Settings
from pytest_flopguard.budgets.tolerances import QUANTITIES
from pytest_flopguard.core.expectation import Expectation, Origin

Load = Callable[..., Settings]
Refused = Callable[..., list[str]]
WHERE = MarkerOrigin(origin=Origin(path="tests/t.py", line=7))


def of_pyproject(load: Load, limits: str, settings: str = "") -> list[Expectation]:
    budgets = load(f"[tool.flopguard]\n{settings}\n[tool.flopguard.budgets.'t.py::f']\n{limits}\n").budgets
    return [each for budget in budgets for each in budget.expectations]


def of_marker(**kwargs: object) -> list[Expectation]:
    budget, problems = read_marker((), kwargs, WHERE, {})
    assert problems == ()
    return list(budget.expectations)


def bounds(expectations: list[Expectation]) -> list[tuple[str, str | None, int | None, int | None, str]]:
    return [(each.quantity, each.device, each.low, each.high, each.severity) for each in expectations]


GB = 10**9
CASES = [
    ("flops = '9 GFLOP'", {"flops": "9 GFLOP"}, [("flops", None, None, 9 * GB, "error")]),
    ("forward-flops = 1.5e9", {"forward_flops": 1.5e9}, [("forward_flops", None, None, 3 * GB // 2, "error")]),
    ("backward-flops = 7", {"backward_flops": 7}, [("backward_flops", None, None, 7, "error")]),
    ("recompute-flops = 0", {"recompute_flops": 0}, [("recompute_flops", None, None, 0, "error")]),
    ("optimizer-flops = 1", {"optimizer_flops": 1}, [("optimizer_flops", None, None, 1, "error")]),
    # 1.2 * 1024**3 = 1288490188.8
    ("peak-memory = '1.2 GiB'", {"peak_memory": "1.2 GiB"}, [("peak_memory", None, None, 1_288_490_188, "error")]),
    ("memory-growth = '2 GB'", {"memory_growth": "2 GB"}, [("memory_growth", None, None, 2 * GB, "error")]),
    ("parameters = '125 M'", {"parameters": "125 M"}, [("parameters", None, None, 125_000_000, "error")]),
    ("parameter-bytes = '1 kB'", {"parameter_bytes": "1 kB"}, [("parameter_bytes", None, None, 1000, "error")]),
    (
        "flops = { limit = 9, at-least = 5, severity = 'warn' }",
        {"flops": {"limit": 9, "at_least": 5, "severity": "warn"}},
        [("flops", None, 5, 9, "warn")],
    ),
    ("flops = { at-least = 5 }", {"flops": {"at_least": 5}}, [("flops", None, 5, None, "error")]),
    ("flops = { limit = 5, at-least = 5 }", {"flops": {"limit": 5, "at_least": 5}}, [("flops", None, 5, 5, "error")]),
    # At least 1.2 GiB is at least 1288490189 whole bytes.
    (
        "peak-memory = { at-least = '1.2 GiB' }",
        {"peak_memory": {"at_least": "1.2 GiB"}},
        [("peak_memory", None, 1_288_490_189, None, "error")],
    ),
    (
        "peak-memory = { cpu = '1 kB', cuda = { limit = 2000, at-least = 1, tolerance = 5 } }",
        {"peak_memory": {"cpu": "1 kB", "cuda": {"limit": 2000, "at_least": 1, "tolerance": 5}}},
        [("peak_memory", "cpu", None, 1000, "error"), ("peak_memory", "cuda", 0, 2005, "error")],
    ),
    (
        "memory-growth = { 'cuda:sm80, cuda:sm90' = 7, 'sim:h100' = 8, fake = 9, mps = 1, xpu = 2, meta = 3 }",
        {"memory_growth": {"cuda:sm80, cuda:sm90": 7, "sim:h100": 8, "fake": 9, "mps": 1, "xpu": 2, "meta": 3}},
        [
            ("memory_growth", "cuda:sm80", None, 7, "error"),
            ("memory_growth", "cuda:sm90", None, 7, "error"),
            ("memory_growth", "sim:h100", None, 8, "error"),
            ("memory_growth", "fake", None, 9, "error"),
            ("memory_growth", "mps", None, 1, "error"),
            ("memory_growth", "xpu", None, 2, "error"),
            ("memory_growth", "meta", None, 3, "error"),
        ],
    ),
    ("flops = 1\nseverity = 'warn'", {"flops": 1, "severity": "warn"}, [("flops", None, None, 1, "warn")]),
    (
        "severity = 'warn'\nflops = { limit = 1, severity = 'error' }",
        {"severity": "warn", "flops": {"limit": 1, "severity": "error"}},
        [("flops", None, None, 1, "error")],
    ),
]


@pytest.mark.parametrize(("toml", "kwargs", "expected"), CASES)
def test_both_places_say_the_same(
    load: Load, toml: str, kwargs: dict[str, object], expected: list[tuple[object, ...]]
) -> None:
    assert bounds(of_pyproject(load, toml)) == expected
    assert bounds(of_marker(**kwargs)) == expected


def test_every_quantity_but_unknown_ops_can_be_limited() -> None:
    covered = {row[0] for _, _, rows in CASES for row in rows}
    assert covered == set(QUANTITIES)
    assert "unknown_ops" not in QUANTITIES


def test_a_tolerance_widens_both_bounds_by_a_share_of_each(load: Load) -> None:
    # 2% of 1000 is 20, 2% of 500 is 10.
    (found,) = of_pyproject(load, "flops = { limit = 1000, at-least = 500, tolerance = '2%' }")
    assert (found.low, found.high) == (490, 1020)


def test_a_tolerance_does_not_lower_the_least_below_nothing(load: Load) -> None:
    (found,) = of_pyproject(load, "flops = { at-least = 5, tolerance = 9 }")
    assert (found.low, found.high) == (0, None)


@pytest.mark.parametrize(
    ("settings", "limits", "high"),
    [
        # The limit's own comes first, then the budget's, then the setting's, then none.
        ("tolerance = '1%'", "tolerance = '2%'\nflops = { limit = 1000, tolerance = '3%' }", 1030),
        ("tolerance = '1%'", "tolerance = '2%'\nflops = 1000", 1020),
        ("tolerance = '1%'", "tolerance = { flops = '2%' }\nflops = 1000", 1020),
        ("tolerance = '1%'", "tolerance = { parameters = '2%' }\nflops = 1000\nparameters = 0", 1010),
        ("tolerance = '1%'", "flops = 1000", 1010),
        ("tolerance = { flops = 7 }", "flops = 1000", 1007),
        ("tolerance = { parameters = 7 }", "flops = 1000", 1000),
        ("tolerance = '1%'", "flops = { limit = 1000, tolerance = 0 }", 1000),
        ("", "flops = 1000", 1000),
    ],
)
def test_the_closest_tolerance_holds(load: Load, settings: str, limits: str, high: int) -> None:
    assert of_pyproject(load, limits, settings)[0].high == high


def test_one_tolerance_for_a_budget_needs_to_fit_what_it_limits_only(load: Load, refused: Refused) -> None:
    (found,) = of_pyproject(load, "peak-memory = 5\ntolerance = '1 KiB'")
    assert found.high == 5 + 1024
    assert of_marker(peak_memory=5, tolerance="1 KiB")[0].high == 5 + 1024
    assert refused("[tool.flopguard.default-budget]\npeak-memory = 5\nflops = 1\ntolerance = '1 KiB'\n") == [
        "pyproject.toml:4: tolerance = '1 KiB': does not fit flops; write a percentage, or a table with a tolerance "
        "for each quantity [bad-amount]"
    ]


def test_settings_tolerances_hold_for_markers_too() -> None:
    budget, problems = read_marker((), {"flops": 1000}, WHERE, {"flops": "1%"})
    assert problems == ()
    assert budget.expectations[0].high == 1010


def test_limits_stand_where_they_are_written(load: Load) -> None:
    settings = load(
        """\
        [tool.flopguard.budgets."tests/t.py::f"]
        flops = "9 GFLOP"  # of which 8 are attention
        parameters = { at-least = 3 }
        peak-memory.cpu = "1 GiB"

        [tool.flopguard.budgets."tests/t.py::f".memory-growth]
        cpu = "2 GiB"

        [tool.flopguard.budgets."tests/t.py::f".memory-growth.cuda]
        severity = "warn"
        limit = "3 GiB"

        [tool.flopguard.budgets]
        "t*" = { flops = 1 }
        """
    )
    found = [(each.quantity, str(each.origin), each.origin.text) for b in settings.budgets for each in b.expectations]
    assert found == [
        ("flops", "pyproject.toml:2", 'flops = "9 GFLOP"'),
        ("parameters", "pyproject.toml:3", "parameters = { at-least = 3 }"),
        ("peak_memory", "pyproject.toml:4", 'peak-memory.cpu = "1 GiB"'),
        ("memory_growth", "pyproject.toml:7", 'cpu = "2 GiB"'),
        ("memory_growth", "pyproject.toml:11", 'limit = "3 GiB"'),
        ("flops", "pyproject.toml:14", '"t*" = { flops = 1 }'),
    ]


MISTAKES = [
    ({"flosp": 1}, "unknown budget quantity 'flosp'; did you mean 'flops'? [unknown-quantity]"),
    ({"unknown_ops": 1}, "unknown budget quantity 'unknown_ops' [unknown-quantity]"),
    ({"peak-memory": 1}, "unknown budget quantity 'peak-memory'; did you mean 'peak_memory'? [unknown-quantity]"),
    ({"flops": "9 GFLOPS"}, "flops = '9 GFLOPS': 'GFLOPS' is a rate; a budget is a count: write 'GFLOP' [bad-amount]"),
    ({"flops": True}, "flops = True: cannot be read as FLOPs; write for example '12.4 GFLOP' or 1.9e12 [bad-amount]"),
    ({"flops": {"limit": -1}}, "flops.limit = -1: an amount cannot be negative [bad-amount]"),
    ({"flops": {"at_least": -1}}, "flops.at_least = -1: an amount cannot be negative [bad-amount]"),
    (
        {"flops": {"limit": 4, "at_least": 5}},
        "flops.at_least = 5: expected at most the limit, 4 [bad-value]",
    ),
    ({"flops": {}}, "flops = {}: expected an amount, or a table with 'limit' or 'at_least' [bad-value]"),
    (
        {"flops": {"tolerance": "2%"}},
        "flops = {'tolerance': '2%'}: expected an amount, or a table with 'limit' or 'at_least' [bad-value]",
    ),
    (
        {"flops": {"limit": 1, "tolerence": "2%"}},
        "unknown key 'tolerence' in the limit of flops; did you mean 'tolerance'? [unknown-budget-key]",
    ),
    (
        {"flops": {"limit": 1, "tolerance": 0.5}},
        "flops.tolerance = 0.5: a share needs its sign: write '50%' [bad-amount]",
    ),
    (
        {"flops": {"limit": 1, "severity": "fatal"}},
        "flops.severity = 'fatal': expected 'error' or 'warn' [bad-value]",
    ),
    ({"flops": {"cpu": 1}}, "unknown key 'cpu' in the limit of flops [unknown-budget-key]"),
    ({"severity": ["warn"], "flops": 1}, "severity = ['warn']: expected 'error' or 'warn' [bad-value]"),
    ({"severity": "warn"}, "flop_budget = {'severity': 'warn'}: expected at least one limit [bad-value]"),
    (
        {"flops": 1, "tolerance": {"parameters": 1}},
        "tolerance.parameters = 1: expected a tolerance only for what this budget limits [bad-value]",
    ),
    ({"peak_memory": {"cdua": 1}}, "unknown device key 'cdua'; did you mean 'cuda'? [unknown-device]"),
    ({"peak_memory": {"limti": 1}}, "unknown device key 'limti'; did you mean 'limit'? [unknown-device]"),
    ({"peak_memory": {"cuda:": 1}}, "unknown device key 'cuda:'; did you mean 'cuda'? [unknown-device]"),
    ({"peak_memory": {"": 1}}, "unknown device key '' [unknown-device]"),
    (
        {"peak_memory": {"cuda:0": 1}},
        "unknown device key 'cuda:0'; a device has no number here: write 'cuda', or its architecture as in "
        "'cuda:sm90' [unknown-device]",
    ),
    (
        {"peak_memory": {"cpu": 1, "cuda, cpu": 2}},
        "peak_memory.cuda, cpu = 'cuda, cpu': expected each device once, and 'cpu' stands in 'cpu' too [bad-value]",
    ),
    ({"peak_memory": {"cpu": "1 GFLOP"}}, "peak_memory.cpu = '1 GFLOP': 'GFLOP' is no unit of bytes; write for "),
    (
        {"peak_memory": {"limit": 1, "cuda:sm90": 2}},
        "unknown key 'cuda:sm90' in the limit of peak_memory; write one limit for all devices, or limits by device "
        "[unknown-budget-key]",
    ),
    (
        {"peak_memory": {"cpu": {"cuda": 1}}},
        "unknown key 'cuda' in the limit of peak_memory; write one limit for all devices, or limits by device ",
    ),
    (
        {"peak_memory": {}},
        "peak_memory = {}: expected an amount, or a table with 'limit' or 'at_least' [bad-value]",
    ),
]


@pytest.mark.parametrize(("kwargs", "message"), MISTAKES)
def test_a_mistake_is_told_once_where_it_stands(kwargs: dict[str, object], message: str) -> None:
    _, problems = read_marker((), kwargs, WHERE, {})
    assert len(problems) == 1
    assert str(problems[0]).startswith(f"tests/t.py:7: {message}")


def test_all_mistakes_of_a_marker_are_told_at_once() -> None:
    kwargs = {"flosp": 1, "flops": "much", "peak_memory": {"cdua": 1, "cpu": -1}, "parameters": 5}
    budget, problems = read_marker(("9 GFLOP", 3), kwargs, WHERE, {})
    assert [each.code for each in problems] == [
        "bad-marker",
        "bad-marker",
        "unknown-quantity",
        "bad-amount",
        "unknown-device",
        "bad-amount",
    ]
    assert problems[0].text == "flop_budget takes keyword arguments only, got '9 GFLOP' [bad-marker]"
    assert bounds(list(budget.expectations)) == [("parameters", None, None, 5, "error")]


def test_a_marker_may_limit_nothing() -> None:
    budget, problems = read_marker((), {}, WHERE, {})
    assert (budget.pattern, budget.rank, budget.expectations, problems) == ("flop_budget", "marker", (), ())
    assert budget.origin == WHERE.origin


KEYS = st.sampled_from(["limit", "at_least", "tolerance", "severity", "cpu", "cuda:sm90", "sim, cpu", "x"]) | st.text()
WRITTEN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["1 GiB", "2%", "warn"]),
    lambda inner: st.dictionaries(KEYS, inner, max_size=3) | st.lists(inner, max_size=2),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from([*QUANTITIES, "tolerance", "severity"]) | st.text(), WRITTEN, max_size=4))
def test_whatever_is_written_gives_limits_or_problems(kwargs: dict[str, object]) -> None:
    budget, problems = read_marker((), kwargs, WHERE, {})
    assert budget.expectations or problems or not kwargs
    for each in budget.expectations:
        assert each.low is not None or each.high is not None
        assert (each.low or 0) >= 0
        assert each.high is None or each.high >= (each.low or 0)
