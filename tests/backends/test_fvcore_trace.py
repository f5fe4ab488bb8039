from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from fvcore.nn import FlopCountAnalysis
from fvcore.nn.jit_analysis import _IGNORED_OPS
from torch import nn
from torch._subclasses import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from pytest_flopguard.backends.base import Unavailable
from pytest_flopguard.backends.fvcore_trace import FvcoreTracer
from pytest_flopguard.backends.jit_names import kind_of
from pytest_flopguard.core.measurement import FlopTally
from pytest_flopguard.formulas.registry import Registry

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def refused(costs: Registry) -> Callable[..., str]:
    """Return the reason why a model cannot be traced."""

    def refused(model: Any, *args: Any, **kwargs: Any) -> str:
        found = FvcoreTracer(costs).trace(model, args, kwargs)
        assert isinstance(found, Unavailable), found
        assert found.name == "fvcore"
        assert "\n" not in found.reason
        return found.reason

    return refused


def test_norms_pooling_and_resizing_are_uncounted(trace: Callable[..., FlopTally]) -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 4, 1, bias=False), nn.BatchNorm2d(4), nn.GroupNorm(2, 4), nn.InstanceNorm2d(4), nn.ReLU(),
        nn.Upsample(scale_factor=2), nn.Upsample(scale_factor=2, mode="bilinear"), nn.LayerNorm(32),
        nn.Dropout(), nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Softmax(-1),
    )  # fmt: skip
    tally = trace(model, torch.ones(2, 3, 8, 8))
    # 1x1 convolution: 3 * 4 * 2 * 8 * 8 multiply-adds, and nothing else.
    assert tally.forward == 2 * 3 * 4 * 2 * 64
    assert {"aten.batch_norm", "aten.layer_norm", "aten.adaptive_avg_pool2d", "aten.softmax"} <= set(
        tally.calls_of("uncounted")
    )
    assert tally.calls_of("free")["aten.flatten"] == 1
    # Without the override fvcore counts them: 5 per element for group norm alone.
    assert FlopCountAnalysis(model, torch.ones(2, 3, 8, 8)).total() > 3 * 4 * 2 * 64


class Nested(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.shared = nn.Linear(4, 4, bias=False)
        self.stack = nn.Sequential(self.shared, nn.Linear(4, 6))
        self.direct = nn.Linear(6, 2)

    def forward(self, x: torch.Tensor) -> dict[str, Any]:
        _unused = x @ torch.ones(4, 9)
        hidden = self.stack(self.shared(x))
        return {"logits": self.direct.forward(hidden), "name": "nested"}


def test_flops_belong_to_the_innermost_called_module(trace: Callable[..., FlopTally]) -> None:
    tally = trace(Nested(), torch.ones(3, 4))
    counted = {(each.module, each.op): (each.calls, each.flops) for each in tally.counts if each.kind == "counted"}
    assert counted == {
        # Results that nobody returns were computed all the same: 3*4*9.
        ("Nested", "aten.matmul"): (1, 2 * 3 * 4 * 9),
        # ``forward`` called directly is part of the caller: 3*6*2.
        ("Nested", "aten.linear"): (1, 2 * 3 * 6 * 2),
        # One module under two names keeps the first: two calls of 3*4*4.
        ("Nested.shared", "aten.linear"): (2, 2 * 2 * 3 * 4 * 4),
        ("Nested.stack.1", "aten.linear"): (1, 2 * 3 * 4 * 6),
    }
    assert tally.engine == "fvcore"
    assert sum(tally.by_module().values()) == tally.forward == tally.total
    assert {each.phase for each in tally.counts} == {"forward"}
    assert {each.module for each in tally.counts if each.kind != "counted"} == {""}


def test_any_arguments_reach_the_model(trace: Callable[..., FlopTally]) -> None:
    seen: list[Any] = []

    def function(x: torch.Tensor, scale: float, *, pair: dict[str, torch.Tensor], flag: bool = False) -> None:
        seen.append((scale, flag, pair["same"] is x))
        torch.mm(x, pair["other"])

    x = torch.ones(3, 4)
    tally = trace(function, x, 2.5, pair={"same": x, "other": torch.ones(4, 5)}, flag=True)
    assert tally.forward == 2 * 3 * 4 * 5
    assert seen == [(2.5, True, True)]


def test_a_model_without_arguments(trace: Callable[..., FlopTally]) -> None:
    assert trace(lambda: torch.ones(3, 4) @ torch.ones(4, 5)).forward == 2 * 3 * 4 * 5


def test_fvcore_itself_agrees_where_it_is_right(trace: Callable[..., FlopTally]) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 6 * 6, 10))
    x = torch.ones(2, 3, 8, 8)
    assert trace(model, x).forward == 2 * FlopCountAnalysis(model, x).total()


def test_tensors_without_values(trace: Callable[..., FlopTally]) -> None:
    assert trace(nn.Linear(4, 5, device="meta"), torch.ones(3, 4, device="meta")).forward == 2 * 3 * 4 * 5
    with FakeTensorMode():
        assert trace(nn.Linear(4, 5), torch.ones(3, 4)).forward == 2 * 3 * 4 * 5


def test_checkpointed_modules_are_counted_once(trace: Callable[..., FlopTally]) -> None:
    class Model(nn.Sequential):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return checkpoint(self[0], x, use_reentrant=False)

    assert trace(Model(nn.Linear(4, 5)), torch.ones(3, 4)).by_module() == {"Model.0": 2 * 3 * 4 * 5}


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x @ x

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        return grad


def test_what_fvcore_cannot_count_is_unknown(trace: Callable[..., FlopTally]) -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pair = nn.Bilinear(4, 4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = Doubled.apply(self.pair(x, x))
            return torch.fft.rfft(x, dim=0) + torch.fft.rfft(x, dim=0)

    tally = trace(Model(), torch.ones(4, 4, 4))
    assert tally.forward is None
    # The product inside the function is seen, but nothing says that it is all that the function does.
    assert tally.at_least == 2 * 4 * (4 * 4 * 4)
    fft, no_handle = "aten.fft_rfft", "fvcore has no handle for it"
    hidden = "a torch.autograd.Function may run kernels that no trace shows; its ATen ops are counted"
    operands = "float32[4, 4, 4], float32[4, 4, 4], float32[4, 4, 4], float32[4]"
    assert [(each.op, each.module, each.calls, each.call, each.reason) for each in tally.unknown_ops] == [
        ("aten.bilinear", "Model.pair", 1, f"aten.bilinear({operands})", no_handle),
        ("prim.PythonOp.Doubled", "Model", 1, "prim.PythonOp.Doubled(float32[4, 4, 4])", hidden),
        (fft, "Model", 2, f"{fft}(float32[4, 4, 4], None, 0, None)", no_handle),
    ]  # fmt: skip


@pytest.fixture
def custom_op() -> Any:
    with torch.library._scoped_library("flopguard_trace_test", "DEF") as library:
        library.define("fused(Tensor x, float scale) -> Tensor")
        library.impl("fused", lambda x, scale: x * scale, "CompositeExplicitAutograd")
        yield torch.ops.flopguard_trace_test.fused


def test_a_custom_op_is_unknown_until_it_is_registered(
    trace: Callable[..., FlopTally], costs: Registry, custom_op: Any
) -> None:
    (unknown,) = trace(lambda x: custom_op(x, 0.5), torch.ones(8, 16)).unknown_ops
    assert unknown.op == "flopguard_trace_test.fused"
    assert unknown.call == "flopguard_trace_test.fused(float32[8, 16], 0.5)"
    costs.uncounted("flopguard_trace_test.fused")
    tally = trace(lambda x: custom_op(x, 0.5), torch.ones(8, 16))
    assert tally.forward == 0
    assert tally.calls_of("uncounted") == {"flopguard_trace_test.fused": 1}


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning", "ignore:.torch.jit:FutureWarning")
def test_code_that_the_trace_hides_is_unknown(trace: Callable[..., FlopTally]) -> None:
    @torch.jit.script
    def scripted(x: torch.Tensor) -> torch.Tensor:
        return torch.mm(x, x)

    called = trace(scripted, torch.ones(4, 4))
    assert [(each.op, each.reason) for each in called.unknown_ops] == [
        ("prim.CallFunction", "a scripted function: the trace does not hold the ops inside")
    ]
    forked = trace(lambda x: torch.jit.wait(torch.jit.fork(torch.mm, x, x)), torch.ones(4, 4))
    assert "prim.fork" in {each.op for each in forked.unknown_ops}


def test_whatever_fvcore_leaves_out_has_a_kind(costs: Registry) -> None:
    left_out = {op: kind_of(op.replace("::", "."), costs) for op in _IGNORED_OPS}
    assert {op for op, kind in left_out.items() if kind not in ("free", "uncounted")} == set()


@pytest.mark.parametrize(
    "op",
    ["aten.lstm_cell", "aten.fft_fft", "aten.cdist", "aten.bilinear", "aten.linalg_svd", "aten.no_such_op", "x.add"],
)
def test_ops_that_may_hold_products_are_in_no_list(costs: Registry, op: str) -> None:
    # Without a handle, a counted one is unknown to the trace as well.
    assert kind_of(op, costs) in ("unknown", "counted")


def test_comparisons_of_plain_numbers_do_not_hide_those_of_tensors(costs: Registry) -> None:
    assert kind_of("aten.eq", costs) == kind_of("aten.add_", costs) == "uncounted"
    assert kind_of("aten.transpose", costs) == "free"


class Branches(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ x if x.sum() > 0 else x


def test_a_model_that_cannot_be_traced_says_why(refused: Callable[..., str]) -> None:
    assert refused(torch.mm, torch.ones(2, 2)) == "it traces an nn.Module, and this is a builtin_function_or_method"
    assert "Tensor.item() cannot be called on meta tensors" in refused(Branches(), torch.ones(2, 2, device="meta"))
    assert "lazy parameters" in refused(nn.LazyLinear(3), torch.ones(2, 4))
    assert "dynamo" in refused(torch.compile(nn.Linear(4, 4), backend="eager"), torch.ones(2, 4))
    assert "unexpected keyword" in refused(nn.Linear(4, 4), torch.ones(2, 4), mask=None)


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning", "ignore:.torch.jit:FutureWarning")
def test_a_scripted_submodule_is_refused(refused: Callable[..., str]) -> None:
    model = nn.Sequential(nn.Linear(4, 4), torch.jit.script(nn.Linear(4, 4)))
    assert refused(model, torch.ones(2, 4)) == "the module '1' is scripted, and a trace does not hold the ops inside"


class Restless(nn.Module):
    """Changes everything that a forward call may change, and may fail at the end."""

    def __init__(self, fails: bool = False) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(4)
        self.drop = nn.Dropout(0.5)
        self.off = nn.Dropout(0.5).eval()
        self.register_buffer("steps", torch.zeros(()))
        self.register_buffer("absent", None)
        self.register_forward_hook(lambda module, args, out: None)
        self.fails = fails

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x.add_(random.random() + numpy.random.rand())
        self.steps += 1
        self.norm.running_mean = self.norm.running_mean + 1
        out = self.drop(self.norm(x)) @ torch.rand(4, 4)
        if self.fails:
            raise RuntimeError("the model failed")
        return out


def picture(model: Restless, x: torch.Tensor) -> list[Any]:
    """Everything that must stay: values, identities, flags, hooks, random numbers."""
    return [
        {name: (id(value), value._version, value.tolist()) for name, value in model.state_dict(keep_vars=True).items()},
        [(name, each.training, list(each._buffers)) for name, each in model.named_modules()],
        [[*each._forward_hooks, *each._forward_pre_hooks] for each in model.modules()],
        (x.tolist(), x._version),
        torch.random.get_rng_state().tolist(),
        random.getstate(),
        numpy.random.get_state()[1].tolist(),
        torch._C._get_tracing_state(),
        torch.is_grad_enabled(),
    ]


@pytest.mark.parametrize("fails", [False, True])
def test_watching_changes_nothing(costs: Registry, fails: bool) -> None:
    model, x = Restless(fails), torch.ones(3, 4)
    before = picture(model, x)
    tally = FvcoreTracer(costs).trace(model, (x,), {})
    assert isinstance(tally, Unavailable if fails else FlopTally)
    assert picture(model, x) == before
    # The picture does show such changes: the test's own call makes them.
    if not fails:
        model(x)
        after = picture(model, x)
        assert [left != right for left, right in zip(before, after, strict=True)] == [
            True, False, False, True, True, True, True, False, False,
        ]  # fmt: skip


class Watching(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.convolutions = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.convolutions += func is torch.ops.aten.convolution.default
        return func(*args, **(kwargs or {}))


def test_modes_that_watch_ops_neither_see_nor_disturb_the_trace(trace: Callable[..., FlopTally]) -> None:
    model, x = nn.Conv2d(3, 4, 3), torch.ones(2, 3, 8, 8)
    with Watching() as outer, Watching() as inner:
        # 4 filters of 3*3*3 terms at 2*6*6 positions.
        assert trace(model, x).forward == 2 * 4 * 27 * 2 * 36
        assert (outer.convolutions, inner.convolutions) == (0, 0)
        model(x)
        assert (outer.convolutions, inner.convolutions) == (1, 1)


def test_a_users_own_error_is_not_swallowed(costs: Registry) -> None:
    class Broken(Exception):
        pass

    class Model(nn.Module):
        def forward(self) -> None:
            raise Broken

    with pytest.raises(Broken):
        FvcoreTracer(costs).trace(Model(), (), {})
    assert torch._C._get_tracing_state() is None


@pytest.mark.slow
def test_importing_and_tracing_are_silent() -> None:
    code = (
        "import torch\n"
        "from pytest_flopguard.backends.fvcore_trace import FvcoreTracer\n"
        "from pytest_flopguard.formulas.registry import default_registry\n"
        "model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Unflatten(1, (2, 2)), torch.nn.RNN(2, 2))\n"
        "model.never_called = torch.nn.Linear(1, 1)\n"
        "print(FvcoreTracer(default_registry()).trace(model[:2], (torch.ones(3, 4),), {}).forward)\n"
    )
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    # 3*4*4 multiply-adds.
    assert (run.stdout, run.stderr) == ("96\n", "")
