"""Without the flag: tests run plain, torch is not imported by us, and one line says so."""

from __future__ import annotations

import pytest

GUARDED = """
import sys
import pytest

@pytest.mark.flop_budget(flops="1 FLOP")
def test_marked():
    assert "torch" not in sys.modules

def test_region(flopguard):
    ran = []
    with flopguard.measure("forward", flops="1 FLOP"):
        ran.append(1)
    assert ran == [1]
    assert flopguard.check(lambda x: x + 1, 2).output == 3
    assert "torch" not in sys.modules
"""


def test_guarded_tests_run_plain_and_one_line_says_so(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(GUARDED)
    result = pytester.runpytest_subprocess("--strict-markers")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["flopguard *: off, 2 guarded test(s) run unguarded (turn on with --flop-budget)"])


@pytest.mark.slow
def test_the_line_is_printed_once_under_xdist(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(GUARDED)
    result = pytester.runpytest_subprocess("-n", "2")
    result.assert_outcomes(passed=2)
    assert result.stdout.str().count("off, 2 guarded test(s)") == 1


def test_only_selected_tests_are_told(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(GUARDED)
    result = pytester.runpytest_inprocess("-k", "test_region")
    result.stdout.fnmatch_lines(["flopguard *: off, 1 guarded test(s) run unguarded*"])
    assert "flopguard 0" not in pytester.runpytest_inprocess("-k", "neither").stdout.str()


def test_nothing_is_said_where_nothing_is_guarded(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_plain(): pass")
    assert "flopguard 0" not in pytester.runpytest_inprocess().stdout.str()


def test_asking_for_a_number_skips_with_the_reason(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        def test_number(flopguard):
            with flopguard.measure("forward") as forward:
                pass
            assert forward.flops.total == 1
        """
    )
    result = pytester.runpytest_inprocess("-rs")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["*flopguard is off, so there is no 'flops' to read: run pytest with --flop-budget"])


def test_on_without_a_guarded_test_torch_stays_away(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import sys

        def test_plain():
            assert "torch" not in sys.modules
        """
    )
    pytester.runpytest_subprocess("--flop-budget").assert_outcomes(passed=1)


@pytest.mark.slow
def test_this_file_would_notice_torch(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(GUARDED)
    pytester.runpytest_subprocess("--flop-budget").assert_outcomes(failed=2)


@pytest.mark.parametrize(
    ("enabled", "flag", "outcome"), [("true", (), "failed"), ("true", ("--no-flop-budget",), "passed")]
)
def test_pyproject_switches_it_on_and_the_command_line_comes_first(
    pytester: pytest.Pytester, enabled: str, flag: tuple[str, ...], outcome: str
) -> None:
    pytester.makepyprojecttoml(f"[tool.flopguard]\nenabled = {enabled}\n")
    pytester.makepyfile(
        """
        import pytest, torch

        @pytest.mark.flop_budget(flops="1 FLOP")
        def test_marked():
            torch.zeros(2, 2) @ torch.zeros(2, 2)
        """
    )
    pytester.runpytest_inprocess(*flag).assert_outcomes(**{outcome: 1})
