"""A child process tries first, and whatever happens to it is a reason, never a crash here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from pytest_flopguard.backends.base import Unavailable
from pytest_flopguard.backends.simulated import self_check
from pytest_flopguard.backends.simulated.self_check import Child

TOLD = "the child process that tried to train on simulated CUDA "


@pytest.fixture
def unasked(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Forget for one test what this process has found out."""
    monkeypatch.delenv(self_check.HANDED_DOWN, raising=False)
    self_check.start.cache_clear()
    self_check.check.cache_clear()
    yield monkeypatch
    self_check.start.cache_clear()
    self_check.check.cache_clear()


def python(program: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != self_check.HANDED_DOWN}
    return subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_this_torch_can_simulate_cuda(unasked: pytest.MonkeyPatch) -> None:
    assert self_check.check() is None


@pytest.mark.slow
def test_checking_imports_no_torch_here() -> None:
    done = python(
        "import sys\n"
        "from pytest_flopguard.backends.simulated import self_check\n"
        "self_check.start()\n"
        "print(self_check.check(), 'torch' in sys.modules)\n"
    )
    assert (done.returncode, done.stdout) == (0, "None False\n"), done.stderr


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("print('{\"reason\": null}')", None),
        ("print('noise'); print('{\"reason\": \"too old\"}')", "too old"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", TOLD + "was ended by SIGSEGV (stderr is empty)"),
        ("import os; os.abort()", TOLD + "was ended by SIGABRT (stderr is empty)"),
        ("1 / 0", TOLD + "ended with exit code 1 (ZeroDivisionError: division by zero)"),
        ("import sys; print('first\\nlast', file=sys.stderr); sys.exit(7)", TOLD + "ended with exit code 7 (last)"),
        ("print(1)", TOLD + "answered '1\\n'"),
        ("pass", TOLD + "answered ''"),
    ],
)
def test_whatever_becomes_of_the_child_is_told(program: str, reason: str | None) -> None:
    assert Child(program).reason() == reason


def test_a_child_that_reads_a_wild_address_is_told() -> None:
    crash = Child("import ctypes; ctypes.c_void_p.from_address(8).value")
    assert crash.reason() == TOLD + "was ended by SIGSEGV (stderr is empty)"


def test_a_child_that_does_not_end_is_ended() -> None:
    child = Child("import time; time.sleep(600)")
    assert child.reason(timeout_s=0.1) == TOLD + "did not end within 0.1 seconds"


def test_a_child_that_cannot_be_started_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    assert (Child("pass").reason() or "").startswith(TOLD + "cannot be started: [Errno 2]")


def test_a_warning_is_no_reason_and_a_stack_dump_hides_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONWARNINGS", "error")
    monkeypatch.setenv("PYTHONFAULTHANDLER", "1")
    crash = "import os, sys, warnings; warnings.warn('hm'); print('said', file=sys.stderr, flush=True); os.abort()"
    assert Child(crash).reason() == TOLD + "was ended by SIGABRT (said)"


def test_a_process_that_never_asks_leaves_no_child_behind() -> None:
    done = python(
        "from pytest_flopguard.backends.simulated.self_check import Child\n"
        "print(Child('import time; time.sleep(600)')._process.pid)\n"
    )
    assert done.returncode == 0, done.stderr
    with pytest.raises(ProcessLookupError):
        os.kill(int(done.stdout), 0)


def test_the_child_s_reason_makes_the_backend_unavailable_once(unasked: pytest.MonkeyPatch) -> None:
    unasked.setattr(self_check, "_TRIAL", 'print(\'{"reason": "too old"}\')')
    refused = self_check.check()
    assert refused == Unavailable(name="simulated", reason="too old")
    unasked.setattr(self_check, "_TRIAL", "1 / 0")
    assert self_check.check() is refused


@pytest.mark.parametrize("reason", [None, "too old"])
def test_an_answer_that_is_handed_down_needs_no_child(unasked: pytest.MonkeyPatch, reason: str | None) -> None:
    unasked.setattr(self_check, "_TRIAL", f"print({json.dumps(json.dumps({'reason': reason}))})")
    # monkeypatch removes the variable that hand_down sets.
    unasked.setenv(self_check.HANDED_DOWN, "")
    self_check.hand_down()
    self_check.start.cache_clear()
    self_check.check.cache_clear()
    unasked.setattr(self_check, "_TRIAL", "1 / 0")
    assert self_check.start() is None
    refused = self_check.check()
    assert (refused.reason if refused else None) == reason


@pytest.mark.parametrize("answer", ["", "{", "[]", "{}", '{"torch": "/another/torch/__init__.py", "reason": null}'])
def test_an_answer_about_another_torch_or_none_at_all_counts_for_nothing(
    unasked: pytest.MonkeyPatch, answer: str
) -> None:
    unasked.setenv(self_check.HANDED_DOWN, answer)
    unasked.setattr(self_check, "_TRIAL", 'print(\'{"reason": "found out here"}\')')
    refused = self_check.check()
    assert refused is not None
    assert refused.reason == "found out here"


TRAINS_AND_EXITS = """
import os, sys
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from pytest_flopguard.backends.simulated import cuda_abi
FakeTensorMode()  # the first one imports torch.compile: once here, not in each fork
def backward(device):
    weight = torch.ones(4, 4, device=device, requires_grad=True)
    (weight @ weight).sum().backward()
    return weight
def simulate(end=lambda: None):
    with cuda_abi.active(), FakeTensorMode(allow_non_fake_inputs=True):
        kept = backward("cuda")
        end()
        return kept
"""
# Each of ten forks trains and then ends as a script does: interpreter and libraries are torn down.
TEN_FORKS = """
{before}
children = []
for _ in range(10):
    child = os.fork()
    if child == 0:
        break
    children.append(child)
if child == 0:
    {use}
else:
    print([os.waitpid(child, 0)[1] for child in children], len(os.listdir("/proc/self/task")))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("before", "use"),
    [
        ("", "kept = simulate()"),
        ("simulate()", "simulate(sys.exit)"),
        ("simulate()", "kept = simulate(); backward('cpu')"),
    ],
    ids=["at once", "inside", "after real training"],
)
def test_ten_processes_that_exit_right_after_use_all_exit_with_0(before: str, use: str) -> None:
    # Thirty in all. That forks may train at all shows that no engine thread was started; so does their number.
    done = python(TRAINS_AND_EXITS + TEN_FORKS.format(before=before, use=use))
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{[0] * 10} 1\n", "")
