"""Fails a test that is not marked ``slow`` and takes more CPU time than a test of the quick tier may.

CPU time, unlike wall time, does not depend on what else runs on the machine, and it includes the processes that a test
starts and waits for. Three sources of chance are left, and all are removed:

- The first test that uses a module, class or session fixture makes it. That time is not counted.
- The first test that uses a library imports it. A test over the limit is therefore run again, and fails only if it is
  over the limit again.
- Machines differ, and processes that share a core slow each other down. The limit grows with the time of a short loop
  that runs right after the test.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator

import pytest
from _pytest.runner import runtestprotocol

# CPU time of the loop below on an idle core of a cloud machine (AMD EPYC, Python 3.11). Limits are for such a core.
LOOP_SECONDS = 0.035


def cpu_seconds() -> float:
    """Return the CPU time of this process and of all child processes that it has waited for."""
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


def slowness() -> float:
    """Return how many times slower this machine is now than the reference, and 1 where it is faster."""
    start = time.process_time()
    total = 0
    for number in range(1_000_000):
        total += number
    return max(1.0, (time.process_time() - start) / LOOP_SECONDS)


class CpuLimit:
    """A pytest plugin that limits the CPU time of a test's setup and call to ``seconds``."""

    def __init__(self, seconds: float, slowness: Callable[[], float] = slowness) -> None:
        self._seconds = seconds
        self._slowness = slowness
        self._start = 0.0
        self._over: str | None = None
        self._fail = False

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
        """Run an unmarked test, and run it again if it was over the limit; only the last run is reported."""
        if item.get_closest_marker("slow"):
            return None
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        reports = self._run(item, nextitem, fail=False)
        if self._over:
            reports = self._run(item, nextitem, fail=True)
        for report in reports:
            item.ihook.pytest_runtest_logreport(report=report)
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        return True

    def _run(self, item: pytest.Item, nextitem: pytest.Item | None, *, fail: bool) -> list[pytest.TestReport]:
        self._fail, self._over, self._start = fail, None, cpu_seconds()
        return runtestprotocol(item, log=False, nextitem=nextitem)

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[object]) -> Generator[None, object, object]:
        """Leave the time of a shared fixture out."""
        before = cpu_seconds()
        try:
            return (yield)
        finally:
            if fixturedef.scope != "function":
                self._start += cpu_seconds() - before

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, None, None]:
        """Fail in the call phase, as any other test does; a failure of the test itself comes first."""
        yield
        spent = cpu_seconds() - self._start
        if item.get_closest_marker("slow") or spent <= self._seconds:
            return
        limit = self._seconds * self._slowness()
        if spent > limit:
            self._over = (
                f"took {spent:.1f} CPU seconds, twice in a row over the limit of {limit:.1f} for a test of the quick "
                "tier: reduce its cost, or mark it with @pytest.mark.slow"
            )
            if self._fail:
                pytest.fail(self._over, pytrace=False)
