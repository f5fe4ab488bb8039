"""Reaches threads that start, by the hook that Python keeps for profilers."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any


class NewThreads:
    """Calls ``joined`` first thing in each thread that starts while this is entered."""

    def __init__(self, joined: Callable[[], None]) -> None:
        self._joined = joined
        self._before: Any = None
        self._entered = False

    def __enter__(self) -> NewThreads:
        self._before = threading.getprofile()
        self._entered = True
        threading.setprofile(self._starts)
        return self

    def __exit__(self, *exc: object) -> None:
        self._entered = False
        # A profiler that came later keeps its place, and passes on to us what we let go by.
        if threading.getprofile() == self._starts:
            threading.setprofile(self._before)

    def _starts(self, frame: FrameType, event: str, arg: Any) -> None:
        # One event is all that is needed: from here on the thread is as slow or fast as it would have been.
        sys.setprofile(self._before)
        if self._entered:
            self._joined()
        if self._before is not None:
            self._before(frame, event, arg)


def started_by_python() -> bool:
    """Whether Python's threading module started the calling thread, and not torch."""
    me = threading.get_ident()
    known = [each for each in threading.enumerate() if each.ident == me]
    return any(not isinstance(each, threading._DummyThread) for each in known)
