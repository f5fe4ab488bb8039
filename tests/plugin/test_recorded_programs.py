"""Programs that torch records or has compiled before: the same as without the guard, and counted or named."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch._dynamo
import torch._inductor.output_code
import torch.export._trace

Project = Callable[..., pytest.Pytester]
Run = Callable[..., pytest.RunResult]
Report = Callable[[], dict[str, Any]]
# The compiler cannot be loaded twice, and a run in this process forgets the modules that it loaded.
BACKENDS = torch._dynamo.list_backends(())
pytestmark = pytest.mark.slow  # torch._dynamo takes seconds to load

HEAD = """
import warnings
import torch._dynamo

warnings.simplefilter("ignore")

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 8, 3), nn.Linear(288, 4)

    def forward(self, x):
        return self.head(self.conv(x).relu().view(x.size(0), -1))

NET, X = Net().eval().requires_grad_(False), torch.ones(2, 3, 8, 8)
"""
# The convolution: 2 * 3*8*9 * 36 positions; the head: 2 * 288*4; each for 2 images.
NET = 2 * 2 * (3 * 8 * 9 * 36 + 288 * 4)


@pytest.fixture
def flops(project: Project, run: Run, report: Report) -> Callable[..., dict[str, Any]]:
    """Run one guarded test and return the FLOPs of its region."""

    def flops(body: str, before: str = "", **outcome: int) -> dict[str, Any]:
        lines = "\n".join(f"        {line}" for line in body.splitlines())
        project(
            f"{HEAD}{before}\ndef test_it(flopguard):\n    with flopguard.measure('it'), torch.no_grad():\n{lines}\n"
        )
        run("--flop-budget", "--flop-report=report.json").assert_outcomes(**(outcome or {"passed": 1}))
        found: dict[str, Any] = report()["records"][-1]["flops"]
        return found

    return flops


def test_a_trace_is_the_same_and_counted_from_its_graph(flops: Callable[..., dict[str, Any]]) -> None:
    found = flops(
        "traced = torch.jit.trace(NET, X, check_trace=False)\n"
        "assert kinds(traced) == ALONE\n"
        "more = torch.randn(5, 3, 8, 8)\n"
        "with flopguard.measure('calls'): assert torch.equal(traced(more), NET(more))",
        "def kinds(traced): return [each.kind() for each in traced.inlined_graph.nodes()]\n"
        "ALONE = kinds(torch.jit.trace(NET, X, check_trace=False))\n",
    )
    # The region inside: two calls with 5 images.
    assert (found["total"], found["unknown_ops"]) == (2 * 5 * NET // 2, [])


def test_the_recording_itself(flops: Callable[..., dict[str, Any]]) -> None:
    found = flops("torch.jit.trace(NET, X, check_trace=False)")
    assert (found["total"], found["unknown_ops"]) == (NET, [])


def test_a_graph_for_inference_is_counted(flops: Callable[..., dict[str, Any]]) -> None:
    optimized = "FAST = torch.jit.optimize_for_inference(torch.jit.script(nn.Sequential(NET.conv, nn.ReLU()).eval()))\n"
    # The convolution of 2 images.
    assert flops("FAST(X)", optimized)["total"] == 2 * 2 * 3 * 8 * 9 * 36


def test_a_static_module_is_unknown(flops: Callable[..., dict[str, Any]]) -> None:
    made = "FROZEN = torch.jit.freeze(torch.jit.script(nn.Linear(8, 8).eval()))\n"
    made += "FAST = torch._C._jit_to_static_module(FROZEN._c)\n"
    found = flops("FAST(torch.ones(2, 8))", made, failed=1)
    assert [each["op"] for each in found["unknown_ops"]] == ["torch.jit.StaticModule"]


def test_what_inductor_compiled_is_unknown(flops: Callable[..., dict[str, Any]]) -> None:
    # Its output code, without the compiler of C++ that makes it: what is called is what every compiled graph calls.
    made = """
from torch._inductor.output_code import CompiledFxGraph
GRAPH = CompiledFxGraph.__new__(CompiledFxGraph)
GRAPH.current_callable = lambda inputs: [NET(*inputs)]
GRAPH._wrap_compiled_regions, GRAPH.recursively_apply_fns, GRAPH.compiled_fn_runner = False, None, None
GRAPH._fx_graph_cache_key = GRAPH.compile_region_name = None
"""
    found = flops("GRAPH([X])", made, failed=1)
    assert [each["op"] for each in found["unknown_ops"]] == ["torch.inductor"]


COMPILING = """
def test_it():
    torch._dynamo.reset()
    seen = []

    def backend(graph, inputs):
        seen.append(graph)
        return graph.forward

    torch.compile(nn.Linear(4, 4), backend=backend)(torch.zeros(2, 4))
    assert len(seen) == 1
"""
BUDGET = '\n@pytest.mark.flop_budget(flops="1 kFLOP")'


def test_compiled_functions_run_compiled_where_no_number_was_asked_for(
    project: Project, run: Run, report: Report
) -> None:
    project(HEAD + COMPILING)
    run("--flop-budget", "--flop-report=report.json").assert_outcomes(passed=1)
    (record,) = report()["records"]
    assert [each["op"] for each in record["flops"]["unknown_ops"]] == ["torch.compile"]


def test_a_guarded_test_that_fails_shows_the_line_to_write(project: Project, run: Run) -> None:
    project(HEAD + BUDGET + COMPILING)
    result = run("--flop-budget")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ['*1 call of compiled functions ran uncompiled*@pytest.mark.flop_budget(measure="off")*']
    )


@pytest.mark.parametrize(
    ("marker", "settings"),
    [
        ('\n@pytest.mark.flop_budget(measure="off")', ""),
        ("", '[tool.flopguard.budgets."test_model.py::*"]\nmeasure = "off"\n'),
        ("", '[tool.flopguard.default-budget]\nflops = "1 kFLOP"\n[tool.flopguard.budgets."*"]\nmeasure = "off"\n'),
        ('\n@pytest.mark.flop_budget(measure="off")', '[tool.flopguard.budgets."*"]\nflops = "1 FLOP"\n'),
    ],
)
def test_a_test_that_is_off_runs_plain(project: Project, run: Run, report: Report, marker: str, settings: str) -> None:
    project(HEAD + marker + COMPILING, settings)
    run("--flop-budget", "--flop-report=report.json").assert_outcomes(passed=1)
    assert report()["records"] == []
    explained = run("--flop-budget", "--flop-explain", "test_model.py::test_it").stdout.str()
    assert 'measure = "off": it runs as it would without the guard' in explained


def test_a_closer_budget_is_kept(project: Project, run: Run) -> None:
    project(HEAD + BUDGET + "\ndef test_it(): forward()\n", '[tool.flopguard.budgets."*"]\nmeasure = "off"\n')
    # 2 * 16 * 8 * 8 = 2,048 of 1,000.
    run("--flop-budget").assert_outcomes(failed=1)


@pytest.mark.parametrize("arguments", ['measure="of"', 'measure="off", flops=1'])
def test_a_wrong_measure_is_refused(project: Project, run: Run, arguments: str) -> None:
    project(f"@pytest.mark.flop_budget({arguments})\ndef test_it(): forward()\n")
    result = run("--flop-budget")
    assert result.ret == pytest.ExitCode.USAGE_ERROR


RECORDERS = """
def test_explain():
    explained = torch._dynamo.explain(nn.Linear(4, 4))(torch.zeros(2, 4))
    assert (explained.graph_count, explained.graph_break_count) == (1, 0)

def test_strict_export():
    torch.export.export(nn.Linear(4, 4), (torch.zeros(2, 4),), strict=True)

def test_fullgraph():
    def f(x):
        torch._dynamo.graph_break()
        return x + 1

    with pytest.raises(Exception):
        torch.compile(f, fullgraph=True, backend="eager")(torch.zeros(2))

def test_make_fx_of_cond():
    from torch.fx.experimental.proxy_tensor import make_fx
    def f(x):
        return torch.cond(x.sum() > 0, lambda a: a @ a, lambda a: a * 2.0, (x,))
    graph = make_fx(f, tracing_mode="symbolic")(torch.ones(3, 3))
    assert "cond" in graph.code

def test_export_with_a_dynamic_size():
    batch = torch.export.Dim("batch", min=2, max=64)
    program = torch.export.export(nn.Linear(4, 4), (torch.zeros(3, 4),), dynamic_shapes=({0: batch},))
    assert program.module()(torch.ones(7, 4)).shape == (7, 4)
"""


def test_recorders_record_what_they_record_alone(project: Project, run: Run) -> None:
    project(HEAD + RECORDERS)
    run("--flop-budget").assert_outcomes(passed=5)
