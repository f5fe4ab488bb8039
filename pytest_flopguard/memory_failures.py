"""What a failure for want of memory shows and leaves behind.

A test that runs out of memory shows what held it, and what its frames hold is let go after it. Where the allocator's
history was recorded, a failure names the file that it is kept in.
"""

from __future__ import annotations

import gc
import sys
import traceback
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_flopguard.core.record import Record
from pytest_flopguard.core.units import Unit
from pytest_flopguard.reporters.amounts import least
from pytest_flopguard.reporters.details import memory
from pytest_flopguard.reporters.owners_table import largest, peak_lines

FOLDER = Path(".flopguard") / "memory-snapshots"
_ERROR = pytest.StashKey[BaseException]()
_RECORD = pytest.StashKey[Record]()
_SNAPSHOT = pytest.StashKey[str]()


def ran_out(error: BaseException | None) -> bool:
    """Whether an error, or what it came from, is that of an allocator."""
    # Without torch in the process no allocator of its can have raised; importing it for this would cost seconds.
    torch: Any = sys.modules.get("torch")
    return any(
        isinstance(each, MemoryError)
        or (torch is not None and isinstance(each, torch.OutOfMemoryError))
        or (isinstance(each, RuntimeError) and "can't allocate memory" in str(each))  # the CPU's allocator
        for each in _chain(error)
    )


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Remember the error of a test that ran out of memory."""
    item.stash[_SNAPSHOT] = ""  # a test may be run again
    try:
        return (yield)
    except BaseException as error:
        if ran_out(error):
            item.stash[_ERROR] = error
        raise


def pytest_flopguard_measured(item: pytest.Item, record: Record) -> None:
    """Remember what the whole test held, of which its regions are parts, and keep the allocator's history."""
    if record.measurement.label:
        return
    item.stash[_RECORD] = record
    guard: Any = item.config.pluginmanager.getplugin("flopguard-guard")
    if guard.settings.why or _breaks_memory(record) or ran_out(sys.exc_info()[1]):
        path = guard.session().keep_snapshot(guard.settings.rootdir / FOLDER, record.nodeid)
        if path is not None:
            item.stash[_SNAPSHOT] = path.relative_to(guard.settings.rootdir).as_posix()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add to the failure's own text, where JUnit files and other reports find it too."""
    report = yield
    if call.when != "call":
        return report
    snapshot = item.stash.get(_SNAPSHOT, "")
    report.flopguard_snapshot = snapshot  # type: ignore[attr-defined]
    if report.failed and _ERROR in item.stash and _RECORD in item.stash:
        _add(report, "memory ran out", _lines(item.stash[_RECORD], item.config.get_verbosity()))
    if report.failed and snapshot:
        from pytest_flopguard.backends.cuda_snapshot import VIEWER

        _add(report, "memory snapshot", [f"{snapshot}: the allocator's history, to be opened at {VIEWER}"])
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, object, object]:
    """Let go what the failed test's frames hold, once its fixtures are gone and nobody looks at them any more."""
    try:
        return (yield)
    finally:
        error = item.stash.get(_ERROR, None)
        if error is not None:
            del item.stash[_ERROR]
            _let_go(error)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Name the snapshots, also those of tests that passed and of other processes."""
    reports = [report for reports in terminalreporter.stats.values() for report in reports]
    kept = sorted({getattr(each, "flopguard_snapshot", "") for each in reports} - {""})
    if kept:
        terminalreporter.section("flopguard memory snapshots")
        terminalreporter.write_line("\n".join(kept))


def _let_go(error: BaseException) -> None:
    for each in _chain(error):
        traceback.clear_frames(each.__traceback__)
        # Before Python 3.13 a frame whose locals somebody looked at keeps them, cleared or not.
        each.__traceback__ = None
    if getattr(sys, "last_value", None) is error:
        sys.last_traceback = None
    gc.collect()
    torch: Any = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def _breaks_memory(record: Record) -> bool:
    return any(each.status == "broken" and each.expectation.unit is Unit.BYTE for each in record.findings)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    pending = [error]
    seen: set[int] = set()
    while pending:
        each = pending.pop()
        if each is not None and id(each) not in seen:
            seen.add(id(each))
            yield each
            pending += [each.__cause__, each.__context__]


def _add(report: pytest.TestReport, title: str, lines: Iterator[str] | list[str]) -> None:
    text = "\n".join(lines)
    shown: Any = report.longrepr
    if text and hasattr(shown, "addsection"):
        shown.addsection(f"flopguard: {title}", text)
    elif text:
        report.sections.append((f"flopguard: {title}", text))


def _lines(record: Record, verbosity: int) -> Iterator[str]:
    for peak in record.measurement.memory:
        if verbosity > 1:
            yield from memory(peak)
        elif verbosity < 0:
            amount = f"{least(peak)}{peak.peak_bytes:,} B"
            yield f"peak memory on {peak.device}: {amount}, {largest(peak)}".removesuffix(", ")
        else:
            yield from peak_lines(peak, when=" until then")
