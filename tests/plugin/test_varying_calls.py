"""A test that a plugin calls as often as time or chance decides gets no baseline, and the reason is shown."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pytest_flopguard import pytest_api

Project = Callable[..., pytest.Pytester]
Run = Callable[..., pytest.RunResult]
# As pytest-codspeed does: the module of the fixture decides, and how often it calls is not the test's choice.
PLUGIN = """
import itertools, pathlib, pytest

@pytest.fixture
def benchmark():
    file = pathlib.Path("rounds")
    rounds = int(file.read_text()) if file.exists() else 3
    def call(function, *args):
        for _ in range(rounds):
            result = function(*args)
        return result
    call.pedantic = lambda function, args=(), rounds=1: call(function, *args)
    return call
"""
EXAMPLES = """
from hypothesis import given, settings, strategies as st

@given(st.integers(1, 9))
@settings(max_examples=4, deadline=None, database=None)
def test_a(n):
    nn.Linear(8, 8)(torch.zeros(n, 8))
"""


@pytest.fixture(autouse=True)
def outside_of_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)


@pytest.fixture
def benchmarked(project: Project) -> Project:
    def write(tests: str) -> pytest.Pytester:
        pytester = project(tests)
        pytester.makepyfile(pytest_codspeed=PLUGIN)
        pytester.makeconftest('pytest_plugins = ["pytest_codspeed"]\n')
        return pytester

    return write


ON = ("-p", "no:benchmark")


@pytest.mark.parametrize("call", ["benchmark(forward)", "benchmark.pedantic(forward, rounds=5)"])
def test_a_benchmark_has_no_baseline(benchmarked: Project, run: Run, call: str) -> None:
    pytester = benchmarked(f"def test_a(benchmark): {call}\n\ndef test_b(): forward()\n")
    result = run(*ON, "--flop-update=new")
    result.stdout.fnmatch_lines(
        ["  new *test_b", "not written: test_model.py::test_a: the benchmark fixture decides by the clock *"]
    )
    result.stdout.no_fnmatch_line("*new *test_a*")
    (pytester.path / "rounds").write_text("7")
    for option in ("--flop-budget", "--flop-strict"):
        run(*ON, option).assert_outcomes(passed=2)


def test_a_region_measures_one_call_of_a_benchmark(benchmarked: Project, run: Run) -> None:
    tests = (
        "def test_a(benchmark, flopguard):\n"
        "    with flopguard.measure('one'): forward()\n"
        "    def call():\n"
        "        with flopguard.measure('many'): forward()\n"
        "    benchmark(call)\n"
    )
    pytester = benchmarked(tests)
    run(*ON, "--flop-update=new").stdout.fnmatch_lines(["*new *test_a  one", "*new *test_a  many"])
    file = pytester.path / "__flopguard__" / "test_model.toml"
    assert "many #2" not in file.read_text()
    (pytester.path / "rounds").write_text("7")
    run(*ON, "--flop-strict").assert_outcomes(passed=1)
    pytester.makepyfile(test_model=(pytester.path / "test_model.py").read_text().replace("zeros(16", "zeros(32"))
    # 2 * 32 * 8 * 8 = 4,096 FLOPs in each of the two regions, over 2,048.
    result = run(*ON, "--flop-budget")
    result.assert_outcomes(failed=1)


def test_an_accepted_number_of_a_benchmark_is_refused_and_removed(benchmarked: Project, run: Run) -> None:
    tests = "@pytest.fixture\ndef repeat(): return lambda function: function()\n\ndef test_a(repeat): repeat(forward)\n"
    pytester = benchmarked(tests)
    assert run("-p", "no:benchmark", "--flop-update=new").ret == 0
    pytester.makepyfile(
        test_model=(pytester.path / "test_model.py")
        .read_text()
        .replace("test_a(repeat): repeat", "test_a(benchmark): benchmark")
    )
    result = run(*ON, "--flop-budget")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "*the baseline cannot be checked: the benchmark fixture decides by the clock *",
            '*  remove  pytest --flop-update=changed --flop-reason="..." test_model.py::test_a',
        ]
    )
    assert run(*ON, "--flop-update=changed", "--flop-reason=benchmark").ret == 0
    run(*ON, "--flop-budget").assert_outcomes(passed=1)


def test_a_fixture_of_ones_own_named_benchmark_has_a_baseline(project: Project, run: Run) -> None:
    pytester = project("def test_a(benchmark): benchmark(forward)\n")
    pytester.makeconftest("import pytest\n@pytest.fixture\ndef benchmark(): return lambda function: function()\n")
    run("-p", "no:benchmark", "--flop-update=new").stdout.fnmatch_lines(["*new *test_a"])


def test_hypothesis_has_no_baseline(project: Project, run: Run) -> None:
    project(EXAMPLES)
    run("--flop-update=new").stdout.fnmatch_lines(
        ["not written: test_model.py::test_a: Hypothesis chooses the inputs and the number of examples; *"]
    )
    run("--flop-strict").assert_outcomes(passed=1)


def test_a_limit_still_applies_to_a_benchmark(benchmarked: Project, run: Run) -> None:
    # 3 rounds of 2,048 FLOPs are 6,144.
    benchmarked("@pytest.mark.flop_budget(flops=6143)\ndef test_a(benchmark): benchmark(forward)\n")
    result = run(*ON, "--flop-budget")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*6,144 FLOP*", "*the benchmark fixture decides by the clock*"])


def test_hypothesis_marks_its_tests(pytester: pytest.Pytester) -> None:
    items = pytester.getitems(f"from torch import nn\nimport torch\n{EXAMPLES}\ndef test_b(): pass\n")
    assert [pytest_api.draws_examples(item) for item in items] == [True, False]
