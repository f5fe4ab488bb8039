"""A test without the mark ``slow`` fails when it takes too much CPU time, and for no other reason."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from cpu_limit import CpuLimit

# The limit here is 0.1 CPU seconds. A test over it takes 0.2.
BURN = """
import subprocess, sys, time, pytest

def burn():
    start = time.process_time()
    while time.process_time() - start < 0.2:
        pass

"""

Outcomes = Callable[..., dict[str, int]]


@pytest.fixture
def outcomes(pytester: pytest.Pytester) -> Outcomes:
    """Run a test file under a limit of 0.1 CPU seconds, and give the number of tests by outcome."""

    def run(text: str, slowness: float = 1.0) -> dict[str, int]:
        pytester.makepyfile(BURN + text)
        limit = CpuLimit(0.1, slowness=lambda: slowness)
        result = pytester.inline_run("-W", "default", plugins=[limit])
        return {
            name: len(reports)
            for name, reports in zip(("passed", "skipped", "failed"), result.listoutcomes(), strict=True)
        }

    return run


def test_a_test_over_the_limit_fails_and_names_the_mark(outcomes: Outcomes, capsys: pytest.CaptureFixture[str]) -> None:
    assert outcomes("def test_it(): burn()") == {"passed": 0, "skipped": 0, "failed": 1}
    shown = capsys.readouterr().out
    assert "over the limit of 0.1 for a test of the quick tier" in shown
    assert "mark it with @pytest.mark.slow" in shown


def test_a_slow_test_may_take_longer(outcomes: Outcomes) -> None:
    assert outcomes("@pytest.mark.slow\ndef test_it(): burn()") == {"passed": 1, "skipped": 0, "failed": 0}


def test_waiting_takes_no_cpu_time(outcomes: Outcomes) -> None:
    assert outcomes("def test_it(): time.sleep(0.2)") == {"passed": 1, "skipped": 0, "failed": 0}


def test_child_processes_count(outcomes: Outcomes) -> None:
    code = "import time\\nwhile time.process_time() < 0.2: pass"
    text = f'def test_it(): subprocess.run([sys.executable, "-c", "{code}"], check=True)'
    assert outcomes(text)["failed"] == 1


def test_the_fixtures_of_the_test_count(outcomes: Outcomes) -> None:
    assert outcomes("@pytest.fixture\ndef made(): burn()\ndef test_it(made): pass")["failed"] == 1


@pytest.mark.parametrize("scope", ["class", "module", "session"])
def test_shared_fixtures_do_not_count(outcomes: Outcomes, scope: str) -> None:
    text = f"@pytest.fixture(scope={scope!r})\ndef made(): burn()\ndef test_it(made): pass"
    assert outcomes(text) == {"passed": 1, "skipped": 0, "failed": 0}


def test_what_only_the_first_run_takes_does_not_count(outcomes: Outcomes) -> None:
    text = "import functools\nonce = functools.cache(burn)\ndef test_it(): once()"
    assert outcomes(text) == {"passed": 1, "skipped": 0, "failed": 0}


def test_the_second_run_has_new_fixtures(outcomes: Outcomes) -> None:
    text = "def test_it(tmp_path):\n    (tmp_path / 'made').mkdir()\n    burn()"
    assert outcomes("import functools\nburn = functools.cache(burn)\n" + text)["passed"] == 1


def test_a_failure_of_the_test_comes_first(outcomes: Outcomes, capsys: pytest.CaptureFixture[str]) -> None:
    assert outcomes("def test_it():\n    burn()\n    assert 1 + 1 == 3")["failed"] == 1
    assert "quick tier" not in capsys.readouterr().out


def test_a_slow_machine_has_a_higher_limit(outcomes: Outcomes) -> None:
    assert outcomes("def test_it(): burn()", slowness=10.0) == {"passed": 1, "skipped": 0, "failed": 0}
