"""A test that runs out of memory: its failure shows what held memory, and what its frames hold is let go after it."""

from __future__ import annotations

import gc
import sys
import traceback
from collections.abc import Generator, Iterator
from typing import Any

import pytest

from pytest_flopguard.core.record import Record
from pytest_flopguard.reporters.details import memory
from pytest_flopguard.reporters.failure import peak_lines
from pytest_flopguard.reporters.owners_table import largest

_ERROR = pytest.StashKey[BaseException]()
_RECORD = pytest.StashKey[Record]()
TITLE = "flopguard: memory ran out"


def ran_out(error: BaseException) -> bool:
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
    try:
        return (yield)
    except BaseException as error:
        if ran_out(error):
            item.stash[_ERROR] = error
        raise


def pytest_flopguard_measured(item: pytest.Item, record: Record) -> None:
    """Remember what the whole test held; regions inside it are parts of that."""
    if not record.measurement.label:
        item.stash[_RECORD] = record


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the table to the failure's own text, where JUnit files and other reports find it too."""
    report = yield
    if call.when == "call" and report.failed and _ERROR in item.stash and _RECORD in item.stash:
        text = "\n".join(_lines(item.stash[_RECORD], item.config.get_verbosity()))
        shown: Any = report.longrepr
        if text and hasattr(shown, "addsection"):
            shown.addsection(TITLE, text)
        elif text:
            report.sections.append((TITLE, text))
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


def _chain(error: BaseException) -> Iterator[BaseException]:
    pending: list[BaseException | None] = [error]
    seen: set[int] = set()
    while pending:
        each = pending.pop()
        if each is not None and id(each) not in seen:
            seen.add(id(each))
            yield each
            pending += [each.__cause__, each.__context__]


def _lines(record: Record, verbosity: int) -> Iterator[str]:
    for peak in record.measurement.memory:
        if verbosity > 1:
            yield from memory(peak)
        elif verbosity < 0:
            yield f"peak memory on {peak.device}: {peak.peak_bytes:,} B, {largest(peak)}".removesuffix(", ")
        else:
            yield from peak_lines(peak, when=" until then")
