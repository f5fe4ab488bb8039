"""Counting real torch programs: which op calls are seen, with which FLOPs, on which tensors."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from pytest_flopguard.backends.dispatch import DispatchFlops
from pytest_flopguard.core.errors import FormulaError
from pytest_flopguard.core.measurement import Cost, FlopTally, OpCall
from pytest_flopguard.core.tensors import TensorSpec
from pytest_flopguard.formulas.registry import Registry

Count = Callable[[Callable[[], Any]], FlopTally]
# [4, 8] @ [8, 16]: 2 * 4 * 8 * 16
PRODUCT = 1024


def rows(*shape: int, grad: bool = False) -> Tensor:
    return torch.ones(*shape, requires_grad=grad)


def test_forward_and_backward_are_counted_apart(count: Count) -> None:
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
    tally = count(lambda: model(rows(4, 8, grad=True)).sum().backward())
    # Forward: [4,8]@[8,16] and [4,16]@[16,3]. Each has two gradients of its own size.
    assert tally.forward == 1024 + 2 * 4 * 16 * 3
    assert tally.backward == 2 * tally.forward
    assert (tally.recompute, tally.optimizer, tally.kernel_recompute) == (0, 0, 0)
    assert tally.by_op() == {"aten.mm": 2816, "aten.addmm": 1408}
    assert tally.calls_of("counted") == {"aten.addmm": 2, "aten.mm": 4}
    assert tally.calls_of("uncounted")["aten.relu"] == 1
    assert tally.calls_of("free")["aten.t"] > 0
    assert tally.unknown_ops == ()
    assert tally.engine == "dispatch"


@pytest.mark.parametrize(
    ("x", "first", "second", "gradients"),
    [
        # Each product has a gradient for its input and one for its weight, where somebody asks for it.
        (True, True, True, 4),
        (False, True, True, 3),
        # The first layer frozen: its input gradient alone is left, and not even that without a grad input.
        (True, False, True, 3),
        (False, False, True, 1),
        # The second frozen: its input gradient still flows on.
        (True, True, False, 3),
        (False, True, False, 2),
        (True, False, False, 2),
    ],
)
def test_only_gradients_that_are_needed_count(count: Count, x: bool, first: bool, second: bool, gradients: int) -> None:
    a, b = nn.Linear(8, 8, bias=False), nn.Linear(8, 8, bias=False)
    a.weight.requires_grad_(first)
    b.weight.requires_grad_(second)
    tally = count(lambda: b(a(rows(4, 8, grad=x))).sum().backward())
    # One product [4,8]@[8,8] is 512 FLOPs.
    assert (tally.forward, tally.backward) == (2 * 512, gradients * 512)


PROGRAMS: dict[str, Callable[[Any], Any]] = {
    "linear": lambda t: nn.Linear(8, 16, device=t)(torch.ones(2, 4, 8, device=t)),
    "conv": lambda t: nn.Conv2d(4, 6, 3, groups=2, device=t)(torch.ones(2, 4, 7, 7, device=t)),
    "conv transposed": lambda t: nn.ConvTranspose1d(4, 6, 3, stride=2, device=t)(torch.ones(2, 4, 7, device=t)),
    "einsum": lambda t: torch.einsum("bij,bjk,kl->bil", *(torch.ones(s, device=t) for s in EINSUM)),
    "tensordot": lambda t: torch.tensordot(torch.ones(3, 4, 5, device=t), torch.ones(4, 5, 2, device=t)),
    "matmul": lambda t: torch.ones(2, 1, 3, 4, device=t) @ torch.ones(5, 4, 6, device=t),
    "vector": lambda t: torch.ones(3, 4, device=t) @ torch.ones(4, device=t),
    "baddbmm": lambda t: torch.baddbmm(torch.ones(1, device=t), *(torch.ones(2, 3, 3, device=t) for _ in "ab")),
    "attention": lambda t: nn.functional.scaled_dot_product_attention(*(torch.ones(s, device=t) for s in HEADS)),
    "causal": lambda t: nn.functional.scaled_dot_product_attention(
        *(torch.ones(2, 4, 5, 8, device=t) for _ in "qkv"), is_causal=True
    ),
    "multi-head": lambda t: nn.MultiheadAttention(8, 2, batch_first=True, device=t)(
        *(torch.ones(2, 5, 8, device=t) for _ in "qkv")
    ),
    "encoder": lambda t: nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True, device=t)(
        torch.ones(2, 5, 8, device=t)
    ),
}
EINSUM = [(2, 3, 4), (2, 4, 5), (5, 6)]
HEADS = [(2, 4, 5, 8), (2, 4, 7, 8), (2, 4, 7, 6)]
FORWARD = {
    # 8 rows: 2*8*8*16
    "linear": 2048,
    # 6*2*3*3 weights at 2*5*5 places; 4*6*3 at 2*7 places.
    "conv": 10_800,
    "conv transposed": 2016,
    # From the left: 2 * [3,4]@[4,5], then 6 rows of [5]@[5,6].
    "einsum": 2 * 2 * 60 + 2 * 6 * 5 * 6,
    # [3,20] @ [20,2]
    "tensordot": 240,
    # 2*5 of [3,4]@[4,6]
    "matmul": 1440,
    "vector": 24,
    "baddbmm": 108,
    # 2*4*5*7 pairs, sums of 8 and 6.
    "attention": 7840,
    # Dense: 2*4*5*5 pairs, sums of 8 and 8.
    "causal": 6400,
    # 10 rows through [8,24] and [8,8]; 2*2*5*5 pairs of 4 and 4.
    "multi-head": 2 * 10 * 8 * 32 + 1600,
    # And 10 rows through [8,16] and [16,8].
    "encoder": 2 * 10 * 8 * 32 + 1600 + 2 * 10 * 8 * 32,
}
SETTINGS: dict[str, Callable[[], contextlib.AbstractContextManager[Any]]] = {
    "grad": torch.enable_grad,
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
}


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_counts_the_same_in_every_setting(count: Count, program: str, setting: str) -> None:
    with SETTINGS[setting]():
        tally = count(lambda: PROGRAMS[program]("cpu"))
    assert (tally.total, tally.unknown_ops) == (FORWARD[program], ())


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_counts_the_same_on_meta_and_fake_tensors(count: Count, program: str) -> None:
    assert count(lambda: PROGRAMS[program]("meta")).total == FORWARD[program]

    def inside() -> None:
        with FakeTensorMode():
            PROGRAMS[program]("cpu")

    assert count(inside).total == FORWARD[program]
    with FakeTensorMode():
        assert count(lambda: PROGRAMS[program]("cpu")).total == FORWARD[program]


@pytest.mark.parametrize(
    "model", [nn.MultiheadAttention(8, 2, batch_first=True), nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)]
)
@pytest.mark.parametrize("setting", [torch.no_grad, torch.inference_mode])
def test_inference_fast_paths_count_as_the_plain_path(count: Count, model: nn.Module, setting: Any) -> None:
    x = rows(2, 5, 8)
    arguments = (x, x, x) if isinstance(model, nn.MultiheadAttention) else (x,)
    model.eval()
    plain = count(lambda: model(*arguments))
    with setting():
        fast = count(lambda: model(*arguments))
    assert fast.calls_of("counted") != plain.calls_of("counted")
    assert fast.total == plain.total != 0


def test_backward_counts_the_same_on_cpu_meta_and_fake_tensors(count: Count) -> None:
    def step(device: str) -> None:
        model = nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True, device=device)
        model(torch.ones(2, 5, 8, device=device, requires_grad=True)).sum().backward()

    tally = count(lambda: step("cpu"))
    assert tally.backward == 2 * FORWARD["encoder"]
    assert count(lambda: step("meta")).backward == tally.backward
    with FakeTensorMode():
        assert count(lambda: step("cpu")).backward == tally.backward
    # The scores of 2*2*5*5 pairs, sums of 4, once more inside the fused kernel.
    assert tally.kernel_recompute == 800


def test_results_written_into_a_tensor_are_counted_once(count: Count) -> None:
    out = torch.empty(0)
    assert count(lambda: torch.mm(rows(4, 8), rows(8, 16), out=out)).total == PRODUCT
    assert count(lambda: torch.ones(4, 16).addmm_(rows(4, 8), rows(8, 16))).total == PRODUCT


def test_an_op_that_raises_is_not_counted(count: Count) -> None:
    def program() -> None:
        with pytest.raises(RuntimeError, match="cannot be multiplied"):
            torch.mm(rows(4, 8), rows(4, 8))

    assert count(program).calls_of("counted") == {}


# Torch itself calls torch.jit.script for tangents, and 2.15 warns of that.
@pytest.mark.filterwarnings("ignore:.torch.jit:FutureWarning")
def test_tangents_and_transforms_count_what_they_do(count: Count) -> None:
    a, b = rows(4, 8), rows(8, 16)
    assert count(lambda: torch.func.vmap(lambda x: x @ b)(rows(3, 4, 8))).total == 3 * PRODUCT
    tally = count(lambda: torch.func.grad(lambda x: (x @ b).sum())(a))
    assert (tally.forward, tally.backward, tally.recompute) == (PRODUCT, PRODUCT, 0)
    # The value, the tangent, and what torch multiplies with the zero tangent of b all the same.
    assert count(lambda: torch.func.jvp(lambda x: (x @ b).square(), (a,), (a,))).total == 3 * PRODUCT
    # torch's decompositions end in prims here, which are known.
    assert count(lambda: torch.func.hessian(lambda x: (x @ b).square().sum())(a)).unknown_ops == ()


class Logging(TorchDispatchMode):
    """A mode of the user's."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen.append(str(func))
        return func(*args, **(kwargs or {}))


def test_modes_of_the_users_work_inside_and_outside(count: Count) -> None:
    def product() -> None:
        rows(4, 8) @ rows(8, 16)

    def inside() -> None:
        with inner:
            product()

    inner, outer, alone = Logging(), Logging(), Logging()
    assert count(inside).total == PRODUCT
    with outer:
        assert count(product).total == PRODUCT
    with alone:
        product()
    assert inner.seen == outer.seen == alone.seen


class Doubling(TorchDispatchMode):
    """A mode that answers one product with two of its own."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.mm.default:
            return args[0] @ args[1] + args[0] @ args[1]
        return func(*args, **(kwargs or {}))


def test_what_a_mode_inside_does_is_what_counts(count: Count) -> None:
    def program() -> None:
        with Doubling():
            rows(4, 8) @ rows(8, 16)

    assert count(program).total == 2 * PRODUCT


def test_regions_nest_and_follow_each_other(costs: Registry) -> None:
    a, b = rows(4, 8), rows(8, 16)
    with DispatchFlops(costs) as engine:
        a @ b
        outer = engine.begin()
        a @ b
        inner = engine.begin()
        a @ b
        (a @ b).relu()
        inner_tally = engine.end(inner)
        torch.erfinv(a)
        outer_tally = engine.end(outer)
        after = engine.end(engine.begin())
    assert (inner_tally.total, outer_tally.total, after.total) == (2 * PRODUCT, 3 * PRODUCT, 0)
    assert inner_tally.calls_of("uncounted") == {"aten.relu": 1}
    assert outer_tally.calls_of("uncounted") == {"aten.erfinv": 1, "aten.relu": 1}
    assert after.counts == after.unknown_ops == ()


def test_an_engine_can_be_entered_again(costs: Registry) -> None:
    engine = DispatchFlops(costs)
    for _ in range(2):
        with engine:
            mark = engine.begin()
            rows(4, 8) @ rows(8, 16)
            assert engine.end(mark).calls_of("counted") == {"aten.mm": 1}


def test_what_is_paused_goes_by_unseen(costs: Registry) -> None:
    with DispatchFlops(costs) as engine:
        mark = engine.begin()
        with engine.paused(), engine.paused():
            nn.Linear(8, 16)(rows(4, 8))
        with pytest.raises(KeyError), engine.paused():
            raise KeyError
        rows(4, 8) @ rows(8, 16)
        tally = engine.end(mark)
    assert tally.total == PRODUCT
    assert tally.calls_of("counted") == {"aten.mm": 1}
    assert engine.parameters(mark) is None


def test_a_wrong_formula_fails_the_test_that_runs_it() -> None:
    registry = Registry()
    registry.op("aten.mm")(lambda x: 1)
    with pytest.raises(FormulaError, match="formula-signature"), DispatchFlops(registry):
        rows(4, 8) @ rows(8, 16)
    assert torch.utils._python_dispatch._get_current_dispatch_mode_stack() == []


@pytest.mark.parametrize(("attention", "total"), [("dense", 10), ("causal", 6)])
def test_a_formula_tells_what_a_call_hides_and_never_where_it_ran(attention: Any, total: int) -> None:
    registry, seen = Registry(attention), []

    @registry.op("aten.mm")
    def mm(a: TensorSpec, b: TensorSpec, *, out: TensorSpec, call: OpCall) -> Cost:
        seen.append((out.shape, call.module, call.phase))
        return Cost(kind="counted", flops=10, masked_flops=4)

    with DispatchFlops(registry) as engine:
        mark = engine.begin()
        nn.Linear(8, 16, bias=False)(rows(4, 8))
        tally = engine.end(mark)
    assert tally.by_module() == {"Linear": total}
    # What the call costs is kept for calls elsewhere, so the module is not told.
    assert seen == [((4, 16), "", "forward")]
