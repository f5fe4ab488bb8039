"""The traceback of a failing model shows the same source lines with and without the guard."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

Project = Callable[..., pytest.Pytester]
Run = Callable[..., pytest.RunResult]
TESTS = """
from torch.utils.checkpoint import checkpoint

class Broken(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(8, 8)
    def forward(self, x):
        self.layer(x)
        raise RuntimeError("in forward")

class Backward(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x): return x * 2
    @staticmethod
    def backward(ctx, gradient): raise RuntimeError("in backward")

def fail(*values): raise RuntimeError("in a hook")

def test_forward(): nn.Sequential(Broken())(torch.zeros(2, 8))

def test_region(flopguard):
    with flopguard.measure("forward"):
        Broken()(torch.zeros(2, 8))

def test_checkpointed(): checkpoint(Broken(), torch.zeros(2, 8, requires_grad=True), use_reentrant=False)

def test_hook_of_a_gradient():
    out = forward()
    out.register_hook(fail)
    out.sum().backward()

def test_hook_of_a_module():
    layer = nn.Linear(8, 8)
    layer.register_forward_hook(fail)
    layer(torch.zeros(2, 8))

def test_function(): Backward.apply(torch.zeros(2, requires_grad=True)).sum().backward()

def test_op(): torch.zeros(2, 3) @ torch.zeros(2, 3)

def test_view(): torch.zeros(3).view(2, 2)
"""


def frames(result: pytest.RunResult) -> dict[str, list[str]]:
    """Return the frames of each failed test, without those of torch: its own hooks and its compiler add some."""
    found: dict[str, list[str]] = {}
    test = ""
    for line in result.stdout.lines:
        if title := re.fullmatch(r"_+ (test_\w+) _+", line):
            test = title[1]
        elif (place := re.match(r"\S+\.py:\d+: ", line)) and "/torch/" not in line:
            found.setdefault(test, []).append(place[0])
    return found


@pytest.mark.parametrize("style", ["short", "long"])
def test_frames_of_the_guard_are_hidden(project: Project, run: Run, style: str) -> None:
    project(TESTS)
    plain = frames(run(f"--tb={style}"))
    assert len(plain) == 8
    assert frames(run(f"--tb={style}", "--flop-budget")) == plain


@pytest.mark.slow
def test_frames_of_a_simulated_gpu_are_hidden(project: Project, pytester: pytest.Pytester) -> None:
    project(
        "def test_op(): torch.zeros(2, 3, device='cuda') @ torch.zeros(2, 3, device='cuda')\n"
        "def test_layer(): nn.Linear(8, 8, device='cuda')(torch.zeros(2, 3, device='cuda'))\n"
        "def test_view(): torch.zeros(3, device='cuda').view(2, 2)\n"
    )
    found = frames(pytester.runpytest_subprocess("--tb=short", "--flop-device=sim:h100"))
    files = {test: [line.partition(":")[0] for line in lines] for test, lines in found.items()}
    assert files == {test: ["test_model.py"] for test in ("test_op", "test_layer", "test_view")}


@pytest.mark.slow
def test_frames_around_compiled_functions_are_hidden(project: Project, pytester: pytest.Pytester) -> None:
    project(
        "def fail(x): raise RuntimeError('compiled')\n\n"
        "compiled = torch.compile(lambda x: fail(x + 1), backend='eager')\n\n"
        "def test_compiled(): compiled(torch.zeros(2))\n"
    )
    plain = frames(pytester.runpytest_subprocess("--tb=short"))
    assert len(plain["test_compiled"]) > 1
    assert frames(pytester.runpytest_subprocess("--tb=short", "--flop-budget")) == plain
