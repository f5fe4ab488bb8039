"""Recorders of torch under the guard: the same artefact as without it, and the recording's own forward is counted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch.export._trace
import torch.fx.experimental.proxy_tensor
import torch.package  # noqa: F401  # runs in this process must not import them anew

Project = Callable[..., pytest.Pytester]
Run = Callable[..., pytest.RunResult]
Report = Callable[[], dict[str, Any]]
pytestmark = pytest.mark.slow  # torch.export takes seconds to load

HEAD = """
import io
import torch.package
from torch.fx.experimental.proxy_tensor import make_fx

NET = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 4)).eval().requires_grad_(False)
X = torch.ones(2, 3, 8, 8)

def text(graph):
    return [(node.op, str(node.target)) for node in graph.nodes]

def packaged():
    file = io.BytesIO()
    with torch.package.PackageExporter(file) as package:
        package.extern("**")
        package.save_pickle("net", "net.pkl", NET)
    file.seek(0)
    return torch.package.PackageImporter(file).load_pickle("net", "net.pkl")

RECORDERS = {
    "symbolic_trace": lambda: (torch.fx.symbolic_trace(NET),) * 2,
    "make_fx": lambda: (make_fx(NET)(X),) * 2,
    "export": lambda: ((found := torch.export.export(NET, (X,), strict=False)).graph_module, found.module()),
    "script": lambda: (None, torch.jit.script(NET)),
    "package": lambda: (None, packaged()),
}
ALONE = {name: record()[0] for name, record in RECORDERS.items()}

@pytest.mark.parametrize("name", RECORDERS)
def test_it(flopguard, name):
    with flopguard.measure("recording"):
        recorded, program = RECORDERS[name]()
    assert recorded is None or text(recorded.graph) == text(ALONE[name].graph)
    with flopguard.measure("call"):
        assert torch.equal(program(X), X_OUT)

X_OUT = NET(X)
"""
# Two images: the convolution, 2 * 3*8*9 * 36 positions; the head, 2 * 288*4.
NET = 2 * (2 * 3 * 8 * 9 * 36 + 2 * 288 * 4)


def test_each_recorder(project: Project, run: Run, report: Report) -> None:
    project(HEAD)
    run("--flop-budget", "--flop-report=report.json").assert_outcomes(passed=5)
    found = {
        (each["nodeid"].partition("[")[2].rstrip("]"), each["label"]): each["flops"]["total"]
        for each in report()["records"]
    }
    assert {name: number for (name, label), number in found.items() if label == "recording"} == {
        "symbolic_trace": 0,  # runs on proxies
        "make_fx": NET,  # runs the model once
        "export": NET,
        "script": 0,
        "package": 0,
    }
    assert {number for (_, label), number in found.items() if label == "call"} == {NET}
