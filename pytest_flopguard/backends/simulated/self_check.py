"""Tries in a child process whether simulated CUDA works with this torch, so that a crash there is only a reason here.

The child takes as long as importing torch and torch.compile. Importing this module imports neither: whoever knows
early that simulated CUDA is wanted calls ``start``, imports and collects meanwhile, and calls ``check`` later.
"""

from __future__ import annotations

import atexit
import functools
import importlib.util
import json
import os
import signal
import subprocess
import sys

from pytest_flopguard.backends.base import Unavailable

NAME = "simulated"
TIMEOUT_S = 120
HANDED_DOWN = "FLOPGUARD_SIMULATED_CHECK"

# The child is to find the same torch and the same package as this process, whatever was done to sys.path.
_TRIAL = """\
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from pytest_flopguard.backends.simulated.trial import trial
print(json.dumps({"reason": trial()}))
"""


@functools.cache
def start() -> Child | None:
    """Start the check, once a process, if no parent process has handed its answer down."""
    return None if _inherited() else Child(_TRIAL)


@functools.cache
def check() -> Unavailable | None:
    """Return why simulated CUDA cannot be used here, or None if a child process trained on it. Waits for the child."""
    child = start()
    reason = child.reason() if child is not None else _inherited()["reason"]
    return None if reason is None else Unavailable(name=NAME, reason=reason)


def hand_down() -> None:
    """Check here, and let every process that is started from now on (test workers) inherit the answer."""
    refused = check()
    os.environ[HANDED_DOWN] = json.dumps({"torch": _torch_file(), "reason": refused.reason if refused else None})


class Child:
    """A running process of Python code that ends with a line of JSON, ``{"reason": null or text}``."""

    def __init__(self, program: str) -> None:
        # A warning is no reason, and a stack dump would hide what stderr says last.
        command = [sys.executable, "-W", "ignore", "-c", program, json.dumps(sys.path)]
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONFAULTHANDLER"}
        self._process: subprocess.Popen[str] | str
        try:
            self._process = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        except OSError as error:
            self._process = f"cannot be started: {error}"
        atexit.register(self._stop)

    def reason(self, timeout_s: float = TIMEOUT_S) -> str | None:
        """Wait, and return what the child answered; a crash, a wrong answer or none in time is a reason too."""
        if isinstance(self._process, str):
            return _told(self._process)
        try:
            stdout, stderr = self._process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            self._stop()
            return _told(f"did not end within {timeout_s:g} seconds")
        if self._process.returncode != 0:
            last = (stderr.strip().splitlines() or ["stderr is empty"])[-1]
            return _told(f"{_ending(self._process.returncode)} ({last})")
        try:
            reason = json.loads(stdout.strip().splitlines()[-1])["reason"]
        except (IndexError, KeyError, TypeError, ValueError):
            return _told(f"answered {stdout[-200:]!r}")
        return None if reason is None else str(reason)

    def _stop(self) -> None:
        if not isinstance(self._process, str) and self._process.returncode is None:
            self._process.kill()
            self._process.communicate()


def _inherited() -> dict[str, str | None]:
    try:
        answer = json.loads(os.environ[HANDED_DOWN])
        # A process that runs another torch has to find out for itself.
        return {"reason": answer["reason"]} if answer["torch"] == _torch_file() else {}
    except (KeyError, TypeError, ValueError):
        return {}


def _torch_file() -> str | None:
    found = importlib.util.find_spec("torch")
    return found.origin if found is not None else None


def _told(what: str) -> str:
    return f"the child process that tried to train on simulated CUDA {what}"


def _ending(returncode: int) -> str:
    if returncode > 0:
        return f"ended with exit code {returncode}"
    known = {int(number): number.name for number in signal.Signals}
    return f"was ended by {known.get(-returncode, f'signal {-returncode}')}"
