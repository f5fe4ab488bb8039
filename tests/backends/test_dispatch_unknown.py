"""What the dispatch engine does not know: told with shapes, module and reason, never counted as nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv
from torch.nn.attention.flex_attention import flex_attention

from pytest_flopguard.backends.dispatch import DispatchFlops
from pytest_flopguard.core.measurement import NO_FORMULA, Cost, FlopTally, UnknownOp
from pytest_flopguard.core.tensors import TensorSpec
from pytest_flopguard.formulas.registry import Registry

Count = Callable[[Callable[[], Any]], FlopTally]


@pytest.fixture(scope="module", autouse=True)
def library() -> Iterator[None]:
    """Ops of a user's own, which no list of ours names."""
    with torch.library._scoped_library("flopguardtest", "FRAGMENT") as library:
        library.define("fused(Tensor x, Tensor w, *, float scale=1.0) -> Tensor")
        library.impl("fused", lambda x, w, *, scale=1.0: (x @ w) * scale, "CPU")
        library.impl("fused", lambda x, w, *, scale=1.0: x.new_empty(x.shape[0], w.shape[1]), "Meta")
        library.define("nonzero_rows(Tensor x) -> Tensor")
        library.impl("nonzero_rows", lambda x: x[x.sum(1) != 0], "CPU")
        library.define("composed(Tensor x, Tensor w) -> Tensor")
        library.impl("composed", lambda x, w: (x @ w).relu(), "CompositeImplicitAutograd")
        library.define("tagged(Tensor x) -> Tensor", tags=(torch.Tag.pointwise,))
        library.impl("tagged", lambda x: x + 1, "CPU")
        library.define("make(int n) -> Tensor")
        library.impl("make", lambda n: torch.ones(n, n) @ torch.ones(n, n), "BackendSelect")
        yield


def ops() -> Any:
    return torch.ops.flopguardtest


def fused(x: Tensor, w: Tensor) -> Tensor:
    result: Tensor = ops().fused(x, w, scale=0.5)
    return result


class Fused(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(8, 8, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            return fused(self.inner(x), torch.ones(8, 16))


def test_an_op_of_the_users_is_unknown_with_all_that_is_seen_of_it(count: Count) -> None:
    model = Fused()
    tally = count(lambda: [model(torch.ones(4, 8)) for _ in range(3)])
    assert tally.unknown_ops == (
        UnknownOp(
            op="flopguardtest.fused",
            call="flopguardtest.fused(float32[4, 8], float32[8, 16], scale=0.5)",
            module="Fused",
            phase="forward",
            calls=3,
            reason=NO_FORMULA,
        ),
    )
    # What ran inside the op is the op's, and not counted beside it: 3 * 2*4*8*8 of the linear layer alone.
    assert (tally.total, tally.forward, tally.at_least) == (None, None, 1536)
    assert tally.backward == 0


def test_an_op_of_the_users_with_a_formula_is_counted(costs: Registry, count: Count) -> None:
    @costs.op("flopguardtest.fused")
    def fused_flops(x: TensorSpec, w: TensorSpec, *, scale: float = 1.0) -> int:
        return 2 * x.numel * w.shape[-1]

    tally = count(lambda: fused(torch.ones(4, 8), torch.ones(8, 16)))
    assert (tally.total, tally.by_op()) == (1024, {"flopguardtest.fused": 1024})
    assert count(lambda: fused(*(torch.ones(s, device="meta") for s in [(4, 8), (8, 16)]))).total == 1024


def test_an_op_whose_result_depends_on_values_is_costed_by_its_result(costs: Registry, count: Count) -> None:
    @costs.op("flopguardtest.nonzero_rows")
    def rows_flops(x: TensorSpec, out: TensorSpec) -> int:
        return out.numel

    full, half = torch.ones(4, 2), torch.tensor([[1.0, 1.0], [0.0, 0.0], [1.0, 1.0], [0.0, 0.0]])
    # 4 rows of 2, then 2 rows of 2, though the arguments look alike.
    assert count(lambda: [ops().nonzero_rows(full), ops().nonzero_rows(half)]).total == 8 + 4


def test_a_composed_op_is_its_parts(count: Count) -> None:
    program = lambda: ops().composed(torch.ones(4, 8), torch.ones(8, 16))  # noqa: E731
    assert count(program).by_op() == {"aten.mm": 1024}
    with torch.inference_mode():
        tally = count(program)
    assert (tally.total, tally.unknown_ops) == (1024, ())


def test_tags_of_a_foreign_op_are_believed_but_not_that_it_only_makes_data(count: Count) -> None:
    assert count(lambda: ops().tagged(torch.ones(3))).calls_of("uncounted") == {"flopguardtest.tagged": 1}
    (unknown,) = count(lambda: ops().make(3)).unknown_ops
    assert unknown.call == "flopguardtest.make(3)"


class Cube(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor) -> Tensor:
        ctx.save_for_backward(x, w)
        return x @ w

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        x, w = ctx.saved_tensors
        return grad @ w.T, x.T @ grad


class Cubed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.ones(8, 16))

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = Cube.apply(x, self.w)
        return result


def test_a_custom_function_is_the_ops_that_it_calls(count: Count) -> None:
    model = nn.Sequential(Cubed())
    tally = count(lambda: model(torch.ones(4, 8, requires_grad=True)).sum().backward())
    # 2*4*8*16, and each gradient as much.
    assert (tally.forward, tally.backward) == (1024, 2048)
    assert tally.by_module() == {"Sequential.0": 3072}


@pytest.mark.parametrize(
    ("program", "op"),
    [
        (lambda: torch.ones(3).eq_(1), "aten.eq_"),
        (lambda: nn.Mish(inplace=True)(torch.ones(3)), "aten.mish_"),
        (lambda: nn.CELU(inplace=True)(torch.ones(3)), "aten.celu_"),
        (lambda: torch.special.entr(torch.ones(3), out=torch.empty(3)), "aten.special_entr"),
        (lambda: torch.add(torch.ones(3), 1, out=torch.empty(3)), "aten.add"),
    ],
)
def test_an_overload_that_torch_did_not_tag_does_what_its_siblings_do(count: Count, program: Any, op: str) -> None:
    tally = count(program)
    assert tally.unknown_ops == ()
    assert op in tally.calls_of("uncounted")


def nested() -> Tensor:
    return torch.nested.nested_tensor([torch.ones(2, 8), torch.ones(3, 8)])


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors", "ignore:Sparse CSR tensor support")
@pytest.mark.parametrize(
    ("program", "op", "reason"),
    [
        (lambda: torch.eye(8).to_sparse() @ torch.eye(8).to_sparse(), "aten.mm", "depends on their indices"),
        (lambda: torch.eye(8).to_sparse_csr() @ torch.eye(8).to_sparse_csr(), "aten.mm", "depends on their indices"),
        (lambda: torch.bmm(nested(), nested().transpose(1, 2)), "aten.bmm", "a nested tensor's shape is not one shape"),
    ],
)
def test_tensors_whose_shape_does_not_tell_the_work(count: Count, program: Any, op: str, reason: str) -> None:
    def after_a_dense_one() -> None:
        torch.eye(8) @ torch.ones(8, 4)
        with torch.inference_mode():
            nn.Linear(8, 4)(torch.ones(2, 8))
        program()

    tally = count(after_a_dense_one)
    unknown = {each.op: each for each in tally.unknown_ops}
    assert reason in unknown[op].reason
    assert unknown[op].call.startswith(op)
    # The dense calls are known: 2*8*8*4 and 2*2*8*4.
    assert tally.at_least == 512 + 128


def test_a_symbolic_shape_is_unknown(count: Count) -> None:
    x = FakeTensorMode(shape_env=ShapeEnv()).from_tensor(torch.ones(5, 8), static_shapes=False)
    (unknown,) = count(lambda: x.T @ x).unknown_ops
    assert "is symbolic" in unknown.reason
    assert unknown.op == "aten.mm"


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_arguments_that_cannot_be_kept_are_costed_call_by_call() -> None:
    seen, registry = [], Registry()

    @registry.op("higher_order.flex_attention")
    def flex_flops(query: TensorSpec, key: TensorSpec, value: TensorSpec, *rest: Any) -> Cost:
        seen.append(rest)
        return Cost(kind="counted", flops=query.numel)

    q = torch.ones(1, 2, 16, 8)
    with DispatchFlops(registry) as engine:
        mark = engine.begin()
        for _ in range(2):
            flex_attention(q, q, q)
        # The kernel options are a dict, which has no hash.
        assert engine.end(mark).by_op() == {"higher_order.flex_attention": 2 * 256}
    assert len(seen) == 2
    assert any(isinstance(each, dict) for each in seen[0])
