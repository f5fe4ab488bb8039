"""Reaches threads that start, by the hook that Python keeps for profilers, and tells those of earlier tests apart."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, Literal

# "current": started while this is entered, or by torch, or the idle worker of a pool, which now works for this test.
# "unclear": started under an earlier entry, and may have been given work since. "earlier": still at its old work.
Standing = Literal["current", "unclear", "earlier"]

# A thread that waits for work is inside one of these; time.sleep and computing leave the thread in its own code.
_WAITING_IN = {"threading", "queue", "selectors", "socket"}
_POOLS = ("concurrent.futures.", "multiprocessing.pool")


class NewThreads:
    """Calls ``joined`` first thing in each thread that starts while this is entered."""

    def __init__(self, joined: Callable[[], None]) -> None:
        self._joined = joined
        self._before: Any = None
        self._entered = False
        self._entry = 0
        self._joined_in: dict[int, int] = {}  # ident of a thread -> the entry that it started under
        self._was: dict[int, Standing] = {}  # of the threads of earlier entries, when this one began

    def __enter__(self) -> NewThreads:
        self._before = threading.getprofile()
        self._entered = True
        self._entry += 1
        alive = {each.ident for each in threading.enumerate()}
        # An ident is used again once its thread is gone.
        self._joined_in = {ident: entry for ident, entry in self._joined_in.items() if ident in alive}
        frames = sys._current_frames() if self._joined_in else {}
        self._was = {ident: _standing(frames[ident]) for ident in self._joined_in if ident in frames}
        threading.setprofile(self._starts)
        return self

    def __exit__(self, *exc: object) -> None:
        self._entered = False
        # A profiler that came later keeps its place, and passes on to us what we let go by.
        if threading.getprofile() == self._starts:
            threading.setprofile(self._before)

    def standing(self) -> Standing:
        """Tell whether the calling thread belongs to this entry."""
        if not self._joined_in:
            return "current"
        me = threading.get_ident()
        if self._joined_in.get(me, self._entry) == self._entry:
            return "current"
        return self._was.get(me, "unclear")

    def _starts(self, frame: FrameType, event: str, arg: Any) -> None:
        # One event is all that is needed: from here on the thread is as slow or fast as it would have been.
        sys.setprofile(self._before)
        if self._entered:
            self._joined_in[threading.get_ident()] = self._entry
            self._joined()
        if self._before is not None:
            self._before(frame, event, arg)


def _standing(innermost: FrameType) -> Standing:
    """Judge a thread by what it did when no test ran."""
    name = str(innermost.f_globals.get("__name__"))
    frame: FrameType | None = innermost
    while frame is not None:
        if str(frame.f_globals.get("__name__")).startswith(_POOLS):
            return "current" if name in _WAITING_IN or name.startswith(_POOLS) else "unclear"
        frame = frame.f_back
    return "unclear" if name in _WAITING_IN else "earlier"


def started_by_python() -> bool:
    """Whether Python's threading module started the calling thread, and not torch."""
    me = threading.get_ident()
    known = [each for each in threading.enumerate() if each.ident == me]
    return any(not isinstance(each, threading._DummyThread) for each in known)
