"""What a test leaves behind does not change what later tests count."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

pytestmark = pytest.mark.slow  # one child process runs all of them

HEAD = """
import os, random, sys, threading, time, warnings
import pytest, torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

net, kept = nn.Linear(8, 8, bias=False), []

class Mode(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return func(*args, **(kwargs or {}))

class Function(TorchFunctionMode):
    def __torch_function__(self, func, types, args=(), kwargs=None):
        return func(*args, **(kwargs or {}))
"""
# [2, 8] @ [8, 8]: 2 * 2 * 8 * 8 = 256 in each later test.
LATER = """
def test_later(): net(torch.ones(2, 8, device="cpu", dtype=torch.float32))
def test_later_too(): net(torch.ones(2, 8, device="cpu", dtype=torch.float32))
"""


BODIES = {
    "a mode": "kept.append(Mode().__enter__())",
    "two modes": "kept.append(Mode().__enter__()); kept.append(Mode().__enter__())",
    "a flop counter": "kept.append(FlopCounterMode(display=False).__enter__())",
    "a function mode": "kept.append(Function().__enter__())",
    "grad mode": "torch.set_grad_enabled(False)",
    "a global no_grad": "kept.append(torch.no_grad()); kept[0].__enter__()",
    "autocast": "kept.append(torch.autocast('cpu')); kept[0].__enter__()",
    "the default dtype": "torch.set_default_dtype(torch.float64)",
    "the default device": "torch.set_default_device('meta')",
    "deterministic algorithms": "torch.use_deterministic_algorithms(True)",
    "the number of threads": "torch.set_num_threads(1)",
    "a seed": "torch.manual_seed(3); random.seed(3)",
    "anomaly mode": "torch.autograd.set_detect_anomaly(True)",
    "hooks of all modules": "nn.modules.module.register_module_forward_hook(lambda *_: None)",
    "hooks of a module": "net.register_forward_hook(lambda *_: None)",
    "hooks of saved tensors": "kept.append(torch.autograd.graph.saved_tensors_hooks(lambda x: x, lambda x: x));"
    " kept[0].__enter__()",
    "a trace function": "sys.settrace(lambda *_: None)",
    "a profiler of threads": "threading.setprofile(lambda *_: None)",
    "filters of warnings": "warnings.simplefilter('ignore')",
    "an environment variable": "os.environ['FLOPGUARD_LEFT'] = '1'",
    "a graph of autograd": "kept.append(net(torch.ones(2, 8)).sum())",
    "a patched function": "kept.append(torch.relu); torch.relu = lambda x: x",
    "a profiler": "kept.append(torch.profiler.profile()); kept[0].__enter__()",
}
UNDO = """
@pytest.fixture(scope="module", autouse=True)
def undo():
    before = torch.relu, dict(nn.modules.module._global_forward_hooks)
    yield
    from torch.utils._python_dispatch import _get_current_dispatch_mode_stack, _pop_mode
    while _get_current_dispatch_mode_stack():
        _pop_mode()
    torch.set_num_threads(1)
    for each in reversed(kept):
        if hasattr(each, "__exit__") and not isinstance(each, (TorchDispatchMode, FlopCounterMode)):
            each.__exit__(None, None, None)
    torch.relu = before[0]
    nn.modules.module._global_forward_hooks.clear()
    nn.modules.module._global_forward_hooks.update(before[1])
    torch.set_grad_enabled(True), torch.set_default_dtype(torch.float32), torch.set_default_device(None)
    torch.use_deterministic_algorithms(False), torch.autograd.set_detect_anomaly(False)
    sys.settrace(None), threading.setprofile(None), os.environ.pop("FLOPGUARD_LEFT", None)
"""


# A fixture cannot undo it: this one is the last file.
LAST = {"inference mode": "kept.append(torch.inference_mode()); kept[0].__enter__()"}
LEFT_LATER = """
def test_enters():
    kept.append(Mode().__enter__())

def test_leaves():
    kept.pop().__exit__(None, None, None)
    net(torch.ones(2, 8))

def test_stack():
    from torch.utils._python_dispatch import _get_current_dispatch_mode_stack
    assert [type(each).__name__ for each in _get_current_dispatch_mode_stack()] == ["OpWatch"]
    net(torch.ones(2, 8))
"""


THREADS = {
    # A thread at its own work: nothing of it belongs to a later test.
    "at work": (
        """
def work():
    while not kept:
        net(torch.ones(2, 8)); time.sleep(0.01)

thread = threading.Thread(target=work, daemon=True)

def test_starts(): thread.start(); time.sleep(0.05)
def test_between(): time.sleep(0.1); net(torch.ones(2, 8))
def test_last(): kept.append(0); thread.join(); net(torch.ones(2, 8))
""",
        {"test_between": 256, "test_last": 256},
    ),
    # A thread that waits may be given work by the later test: that is unknown, and named.
    "waiting": (
        """
import queue
jobs, done = queue.Queue(), queue.Queue()

def work():
    while (job := jobs.get()) is not None:
        done.put(job())

thread = threading.Thread(target=work, daemon=True)

def test_starts(): thread.start()
def test_gives(): jobs.put(lambda: net(torch.ones(2, 8))); done.get()
def test_last(): jobs.put(None); thread.join(); net(torch.ones(2, 8))
""",
        {"test_gives": None, "test_last": 256},
    ),
    # The worker of a pool that waits works for the test that gives it work.
    "a pool": (
        """
from concurrent.futures import ThreadPoolExecutor
pool = ThreadPoolExecutor(1)

def test_starts(): pool.submit(int).result()
def test_gives(): pool.submit(net, torch.ones(2, 8)).result()
def test_last(): pool.shutdown(); net(torch.ones(2, 8))
""",
        {"test_gives": 256, "test_last": 256},
    ),
}


FILES = {
    **{name: f"{UNDO}\ndef test_leaves():\n    net(torch.ones(2, 8))\n    {body}\n" for name, body in BODIES.items()},
    "a mode that is left later": UNDO + LEFT_LATER,
    **{f"a thread, {name}": tests for name, (tests, _) in THREADS.items()},
    **{name: f"\ndef test_leaves():\n    net(torch.ones(2, 8))\n    {body}\n" for name, body in LAST.items()},
}


@pytest.fixture(scope="module")
def flops(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Run each file with the later tests in one process; return the FLOPs by file and test."""
    folder = tmp_path_factory.mktemp("left")
    for at, tests in enumerate(FILES.values()):
        (folder / f"test_{at:02}.py").write_text(HEAD + tests + LATER)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "--flop-budget",
        "--flop-report=report.json",
        "-p",
        "no:cacheprovider",
    ]
    run = subprocess.run(
        command, cwd=folder, env={**os.environ, "PYTEST_ADDOPTS": ""}, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout
    found: dict[str, dict[str, Any]] = {name: {} for name in FILES}
    names = list(FILES)
    for each in json.loads((folder / "report.json").read_text())["records"]:
        file, _, test = each["nodeid"].partition("::")
        found[names[int(file[5:7])]][test] = each["flops"]
    return found


@pytest.mark.parametrize("name", FILES)
def test_later_tests_count_themselves(flops: dict[str, dict[str, Any]], name: str) -> None:
    assert [flops[name][each]["total"] for each in ("test_later", "test_later_too")] == [256, 256]


@pytest.mark.parametrize(("name", "mode"), [("a mode", "Mode"), ("a flop counter", "_FlopCounterMode")])
def test_a_mode_that_is_never_left_is_named(flops: dict[str, dict[str, Any]], name: str, mode: str) -> None:
    found = flops[name]["test_leaves"]
    assert (found["total"], [each["op"] for each in found["unknown_ops"]]) == (None, [f"dispatch_mode.{mode}"])


def test_leaving_a_mode_of_an_earlier_test_is_named_and_leaves_that_mode(flops: dict[str, dict[str, Any]]) -> None:
    found = flops["a mode that is left later"]
    # Leaving took the watch off, so that the product after it was not seen: not 0, but unknown.
    assert [found[each]["total"] for each in ("test_leaves", "test_stack")] == [None, 256]


@pytest.mark.parametrize("name", THREADS)
def test_a_thread_that_outlives_its_test(flops: dict[str, dict[str, Any]], name: str) -> None:
    expected = THREADS[name][1]
    assert {each: flops[f"a thread, {name}"][each]["total"] for each in expected} == expected
