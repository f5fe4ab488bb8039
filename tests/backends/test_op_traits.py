"""What schemas, tags and names tell of ops without a row of their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from pytest_flopguard.backends.dispatch import DispatchFlops
from pytest_flopguard.backends.op_traits import kin, traits
from pytest_flopguard.core.measurement import Kind
from pytest_flopguard.formulas.registry import Registry

aten: Any = torch.ops.aten


@pytest.mark.parametrize(
    ("op", "trait"),
    [
        (aten.transpose.int, "view"),
        (aten.rand.default, "factory"),
        # The result that it is given is no input.
        (aten.hann_window.out, "factory"),
        (aten._local_scalar_dense.default, "query"),
        (aten.equal.default, "query"),
        (aten._assert_async.default, "query"),
        (aten.uniform_.default, "random"),
        (aten.multinomial.default, "random"),
        (aten.add.Tensor, "pointwise"),
        (aten.sum.dim_IntList, "reduction"),
    ],
)
def test_a_schema_tells(op: Any, trait: str) -> None:
    assert trait in traits(op)


@pytest.mark.parametrize(
    ("op", "trait"),
    [
        # Draws for its dropout, and multiplies matrices.
        (aten._scaled_dot_product_flash_attention.default, "random"),
        (aten._cudnn_rnn.default, "random"),
        # Writes, so it does something.
        (aten._foreach_add_.Scalar, "query"),
        (aten.relu_.default, "query"),
        (aten.mm.out, "factory"),
        (aten.mm.default, "query"),
    ],
)
def test_a_schema_does_not_tell(op: Any, trait: str) -> None:
    assert trait not in traits(op)


def test_custom_ops_get_no_benefit_of_the_doubt() -> None:
    with torch.library._scoped_library("flopguard_traits", "DEF") as library:
        library.define("make(int n) -> Tensor")
        library.define("ask(Tensor x) -> int")
        library.define("relu_backward(Tensor x) -> Tensor")
        library.define("add(Tensor x) -> Tensor")
        library.define("version() -> int")
        library.define("warm(__torch__.torch.classes.quantized.LinearPackedParamsBase x) -> ()")
        ops: Any = torch.ops.flopguard_traits
        assert traits(ops.make.default) == traits(ops.ask.default) == traits(ops.warm.default) == frozenset()
        assert traits(ops.version.default) == {"query"}
        assert {each.name for each in kin(ops.relu_backward.default)} == {"flopguard_traits.relu_backward"}
        assert {each.name for each in kin(ops.add.default)} == {"flopguard_traits.add"}


@pytest.mark.parametrize(
    ("op", "other", "derivative"),
    [
        (aten._foreach_addcmul_.Scalar, "aten.addcmul", False),
        (torch.ops.prims.mul.default, "aten.mul", False),
        (torch.ops.prims.zeta.default, "aten.special_zeta", False),
        (aten._softmax_backward_data.default, "aten._softmax", True),
        (aten.glu_jvp.default, "aten.glu", True),
        (aten.bitwise_and_.Scalar, "aten.bitwise_and", False),
    ],
)
def test_a_name_tells(op: Any, other: str, derivative: bool) -> None:
    assert (other, derivative) in {(each.name, each.derivative) for each in kin(op)}


def ran(costs: Registry, function: Callable[[], Any]) -> dict[str, Kind]:
    with DispatchFlops(costs) as flops:
        mark = flops.begin()
        function()
        tally = flops.end(mark)
    return {each.op: each.kind for each in tally.counts} | {each.op: "unknown" for each in tally.unknown_ops}


def test_ops_without_a_row_are_classed_by_what_is_told_of_them(costs: Registry) -> None:
    rows = {each.op for each in costs.entries()}
    x = torch.randn(3, 4, requires_grad=True)
    parameters = [torch.ones(2), torch.ones(3)]

    def work() -> None:
        torch.nn.functional.gelu(torch.rand(3, 4) * x).softmax(-1).mean().backward()
        torch._foreach_add_(parameters, 1)
        torch._foreach_zero_(parameters)
        torch.equal(parameters[0], parameters[1])

    kinds = ran(costs, work)
    expected: dict[str, Kind] = {
        "aten.rand": "free",
        "aten.gelu": "uncounted",
        "aten.gelu_backward": "uncounted",
        "aten._softmax_backward_data": "uncounted",
        "aten.mean": "uncounted",
        "aten._foreach_add_": "uncounted",
        "aten._foreach_zero_": "free",
        "aten.equal": "free",
    }
    assert not rows & expected.keys()
    assert {op: kinds[op] for op in expected} == expected


def test_the_derivative_of_a_product_is_not_told() -> None:
    # What the op costs says nothing of what its derivative does.
    one_formula = Registry()
    one_formula.op("aten._pdist_forward", "aten._pdist")(lambda *_: 1)
    x = torch.randn(3, 4, requires_grad=True)
    kinds = ran(one_formula, lambda: torch.nn.functional.pdist(x).sum().backward())
    assert (kinds["aten._pdist_forward"], kinds["aten._pdist_backward"]) == ("counted", "unknown")
