"""Compiled functions under the watch: counted as they are written, and compiled as ever afterwards."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch._dynamo
from torch import Tensor, nn

from pytest_flopguard.backends.eager_stance import EagerStance
from pytest_flopguard.core.measurement import FlopTally

Count = Callable[[Callable[[], Any]], FlopTally]
# [4, 8] @ [8, 8]: 2 * 4 * 8 * 8
PRODUCT = 512


class Compiler:
    """A torch.compile backend that compiles nothing and counts how often it is asked to."""

    def __init__(self) -> None:
        self.graphs = 0

    def __call__(self, graph: Any, example_inputs: Any) -> Any:
        self.graphs += 1
        return graph


@pytest.fixture
def compiler() -> Iterator[Compiler]:
    torch._dynamo.reset()
    yield Compiler()
    torch._dynamo.reset()


def function(x: Tensor) -> Tensor:
    return (x @ torch.ones(8, 8)).relu()


@pytest.mark.parametrize("fullgraph", [True, False])
def test_a_function_is_counted_as_written_and_compiled_later(count: Count, compiler: Compiler, fullgraph: bool) -> None:
    compiled = torch.compile(function, backend=compiler, fullgraph=fullgraph)
    assert count(lambda: compiled(torch.ones(4, 8))).total == PRODUCT
    assert compiler.graphs == 0
    compiled(torch.ones(4, 8))
    assert compiler.graphs == 1


def test_a_compiled_function_stays_compiled(count: Count, compiler: Compiler) -> None:
    compiled = torch.compile(function, backend=compiler)
    compiled(torch.ones(4, 8))
    assert count(lambda: compiled(torch.ones(4, 8))).total == PRODUCT
    compiled(torch.ones(4, 8))
    assert compiler.graphs == 1


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(8, 8, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x) + 1


def test_a_compiled_model_has_its_modules(count: Count, compiler: Compiler) -> None:
    model = torch.compile(Model(), backend=compiler)
    tally = count(lambda: model(torch.ones(4, 8, requires_grad=True)).sum().backward())
    assert (tally.forward, tally.backward) == (PRODUCT, 2 * PRODUCT)
    assert list(tally.by_module()) == ["Model.inner"]
    in_place = Model()
    in_place.compile(backend=compiler)
    assert list(count(lambda: in_place(torch.ones(4, 8))).by_module()) == ["Model.inner"]
    part = nn.Sequential(torch.compile(Model(), backend=compiler))
    assert list(count(lambda: part(torch.ones(4, 8))).by_module()) == ["Sequential.0.inner"]
    assert compiler.graphs == 0
    in_place(torch.ones(4, 8))
    assert compiler.graphs > 0


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_the_backward_of_a_model_that_ran_compiled_is_counted(count: Count, compiler: Compiler, backend: str) -> None:
    loss = torch.compile(Model(), backend=backend)(torch.ones(4, 8, requires_grad=True)).sum()
    tally = count(loss.backward)
    assert (tally.forward, tally.backward) == (0, 2 * PRODUCT)


def test_a_model_can_be_exported_under_the_watch(count: Count) -> None:
    model = Model()
    # One call, while the graph is made.
    assert count(lambda: torch.export.export(model, (torch.ones(4, 8),), strict=False)).total == PRODUCT


def stance() -> str:
    return torch._dynamo.eval_frame._stance.stance


def test_the_stance_of_the_user_comes_back() -> None:
    with torch.compiler.set_stance("eager_on_recompile"):
        with EagerStance():
            assert stance() == "force_eager"
        assert stance() == "eager_on_recompile"
    assert stance() == "default"


LATE = """
import sys
import torch
from pytest_flopguard.backends.eager_stance import EagerStance

graphs = []

def compiler(graph, example_inputs):
    graphs.append(graph)
    return graph

def function(x):
    return x.relu() * 2

finders = list(sys.meta_path)
x = torch.ones(3)
with EagerStance():
    assert "torch._dynamo" not in sys.modules
    import torch.fx
    assert sys.meta_path != finders
with EagerStance():
    compiled = torch.compile(function, backend=compiler, fullgraph=True)
    assert "torch._dynamo" in sys.modules
    compiled(x)
    assert not graphs
assert sys.meta_path == finders
compiled(x)
assert len(graphs) == 1
assert torch._dynamo.eval_frame._stance.stance == "default"
assert "exec_module" not in vars(torch._dynamo.__spec__.loader)
"""

WATCHED = """
import sys
import torch
from pytest_flopguard.backends.dispatch import DispatchFlops
from pytest_flopguard.formulas.registry import default_registry

with DispatchFlops(default_registry()) as engine:
    mark = engine.begin()
    torch.ones(4, 8) @ torch.ones(8, 8)
    assert engine.end(mark).total == 512
assert "torch._dynamo" not in sys.modules
"""


@pytest.mark.slow
@pytest.mark.parametrize("script", [LATE, WATCHED], ids=["a compiler that loads later", "no compiler at all"])
def test_the_compiler_is_loaded_only_by_who_needs_it(script: str) -> None:
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


def test_where_calls_cannot_be_heard_one_is_taken_for_granted(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[None] = []
    with EagerStance(lambda: heard.append(None)):
        assert heard == []
    monkeypatch.delattr(torch._dynamo.eval_frame, "_callback_from_stance")
    with EagerStance(lambda: heard.append(None)):
        assert heard == [None]
