"""Notes what child processes of a test work: their op calls, and programs whose op calls nothing shows."""

from __future__ import annotations

import multiprocessing.process as processes
import os
import pickle
import re
import shlex
import shutil
import subprocess
import tempfile
import weakref
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any
from unittest.mock import patch

from pytest_flopguard.backends.child_run import STARTED, WatchedRun, WorkFile, forked
from pytest_flopguard.core.measurement import CHILD_PROCESS

_HOW = 'run its function in the test itself, or write measure = "off" in the budget of the test'
WORKED = f"op calls of child processes are not counted: {_HOW}"
UNSEEN = f"the process could not be watched: {_HOW}"
PROGRAM = f"a Python program in another process shows no op calls: {_HOW}"
_PYTHON = re.compile(r"(python|pypy)[\d.]*w?(\.exe)?|torchrun|accelerate|pytest")
# Processes that torch's compiler starts for itself, and our own check of the simulated GPU.
_HARMLESS = ("compile_worker", "pytest_flopguard.backends.simulated")
_WATCHES: weakref.WeakSet[ChildProcesses] = weakref.WeakSet()


class ChildProcesses:
    """While entered, calls ``note`` for the work of processes that start; ``collect`` looks for more of it."""

    def __init__(self, watch: Any, note: Callable[[str, str, str], None]) -> None:
        self._watch = watch
        self._note = note
        self._stack = ExitStack()
        self._path = ""
        self._read = 0
        self._started: dict[int, str] = {}  # processes that have not reported yet, and what they run
        if not _WATCHES and hasattr(os, "register_at_fork"):
            _register()
        _WATCHES.add(self)

    def __enter__(self) -> ChildProcesses:
        self._stack = ExitStack()
        real = processes.BaseProcess.start
        init = subprocess.Popen.__init__

        def start(process: Any) -> None:
            self._start(real, process)

        def popen(this: Any, args: Any, *more: Any, **kwargs: Any) -> None:
            self._program(args)
            init(this, args, *more, **kwargs)

        self._stack.enter_context(patch.object(processes.BaseProcess, "start", start))
        self._stack.enter_context(patch.object(subprocess.Popen, "__init__", popen))
        self._stack.enter_context(patch.object(os, "system", self._shell(os.system)))
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()
        self._started.clear()

    def fork_begins(self) -> None:
        """Hold what threads share, which a fork must not copy half changed."""
        self._watch.lock.acquire()
        if self._watch.active:
            self._file()

    def fork_ended(self) -> None:
        """Go on in the parent."""
        self._watch.lock.release()

    def is_child(self) -> None:
        """Go on in the child."""
        self._watch.lock.release()
        forked()
        if self._watch.active:
            self._watch.reports_to = WorkFile(self._path).append
            self._watch.reports_to(f"{STARTED}{os.getpid()}")

    def collect(self, ends: bool = False) -> None:
        """Note what processes have reported, and at the end those that never did."""
        if self._watch.reports_to is not None or not self._path:
            return
        with open(self._path, "rb") as file:
            file.seek(self._read)
            lines = file.read()
        self._read += len(lines)
        for line in lines.decode().splitlines():
            if line.startswith(STARTED):
                self._started.pop(int(line[1:]), None)
            else:
                self._note(CHILD_PROCESS, f"{line} in a child process", WORKED)
        if ends:
            for call in self._started.values():
                self._note(CHILD_PROCESS, call, UNSEEN)
            self._started.clear()

    def _file(self) -> str:
        if not self._path:
            file, self._path = tempfile.mkstemp(prefix="flopguard-")
            os.close(file)
            weakref.finalize(self, _remove, self._path, os.getpid())
        return self._path

    def _start(self, real: Callable[[Any], None], process: Any) -> None:
        call = f"a process that runs {getattr(getattr(process, '_target', None), '__qualname__', 'a method')}"
        try:
            costs = pickle.dumps(self._watch.costs)
        except (pickle.PicklingError, AttributeError, TypeError):  # a conftest may have any formula, a lambda too
            costs = b""
        if costs and "run" not in vars(process):
            process.run = WatchedRun(process, self._file(), costs)
        try:
            real(process)
        finally:
            if isinstance(vars(process).get("run"), WatchedRun):
                del process.run
        self._file()
        if process.pid is not None and self._watch.on:
            self._started[process.pid] = call

    def _shell(self, real: Callable[[Any], int]) -> Callable[[Any], int]:
        def system(command: Any) -> int:
            self._program(command)
            return real(command)

        return system

    def _program(self, command: Any) -> None:
        words = _words(command)
        if any(_is_python(each) for each in words) and not any(part in each for each in words for part in _HARMLESS):
            self._note(CHILD_PROCESS, f"the program {' '.join(words[:3])[:80]}", PROGRAM)


def _words(command: Any) -> list[str]:
    if isinstance(command, (bytes, os.PathLike)):
        command = os.fsdecode(command)
    if isinstance(command, str):
        try:
            return shlex.split(command)
        except ValueError:
            return command.split()
    return [part for each in command for part in (os.fsdecode(each).split() or [""])]


def _is_python(word: str) -> bool:
    if _PYTHON.fullmatch(os.path.basename(word)):
        return True
    try:
        program = shutil.which(word) or word  # a console script is found by its name alone
        if not os.path.isfile(program):  # reading a pipe would take what is in it
            return False
        with open(program, "rb") as file:
            head = file.readline(200)
    except (OSError, ValueError):
        return False
    return head.startswith(b"#!") and b"python" in head


def _remove(path: str, owner: int) -> None:
    if os.getpid() == owner:
        os.unlink(path)


def _register() -> None:
    def every(method: Callable[[ChildProcesses], None]) -> Callable[[], None]:
        def call() -> None:
            for each in list(_WATCHES):
                method(each)

        return call

    os.register_at_fork(
        before=every(ChildProcesses.fork_begins),
        after_in_parent=every(ChildProcesses.fork_ended),
        after_in_child=every(ChildProcesses.is_child),
    )
