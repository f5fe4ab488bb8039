"""Programs made from programs: transforms, exported graphs, shared and repeated parts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.attention.bias import causal_lower_right
from torch.utils.flop_counter import FlopCounterMode

from pytest_flopguard.core.measurement import FlopTally

Count = Callable[[Callable[[], Any]], FlopTally]
# [4, 8] @ [8, 8]: 2 * 4 * 8 * 8
PRODUCT = 512


def layer() -> nn.Linear:
    return nn.Linear(8, 8, bias=False)


def data(grad: bool = False) -> Tensor:
    return torch.ones(4, 8, requires_grad=grad)


def test_gradients_of_each_sample(count: Count) -> None:
    weight = torch.ones(8, 16)
    each = torch.func.vmap(torch.func.grad(lambda w, x: (x @ w).sum()), in_dims=(None, 0))
    tally = count(lambda: each(weight, data()))
    # 4 rows [8] @ [8, 16], and 4 outer products [8, 1] @ [1, 16].
    assert (tally.total, tally.unknown_ops) == (4 * 2 * 8 * 16 + 4 * 2 * 8 * 16, ())


def test_a_vjp_is_one_product_of_each_operand_that_is_asked_for(count: Count) -> None:
    weight = torch.ones(8, 8)

    def program() -> None:
        _, pull = torch.func.vjp(lambda x: x @ weight, data())
        pull(torch.ones(4, 8))

    tally = count(program)
    assert (tally.total, tally.unknown_ops) == (PRODUCT + PRODUCT, ())


def test_a_jacobian_is_one_product_for_each_output(count: Count) -> None:
    weight = torch.ones(8, 3)
    tally = count(lambda: torch.func.jacrev(lambda x: x @ weight)(torch.ones(8)))
    # [8] @ [8, 3], and [3, 3] @ [3, 8].
    assert (tally.total, tally.unknown_ops) == (2 * 8 * 3 + 2 * 3 * 3 * 8, ())


def test_models_called_with_other_weights(count: Count) -> None:
    model = nn.Sequential(layer(), nn.ReLU(), layer())
    weights = dict(model.named_parameters())
    ensemble = {name: torch.stack([each] * 3) for name, each in weights.items()}
    run = torch.func.vmap(lambda each: torch.func.functional_call(model, each, (data(),)))
    tally = count(lambda: run(ensemble))
    # Three models of two products each.
    assert (tally.total, tally.unknown_ops) == (3 * 2 * PRODUCT, ())
    assert tally.by_module() == {"Sequential.0": 3 * PRODUCT, "Sequential.2": 3 * PRODUCT}


@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")
@pytest.mark.parametrize("decomposed", [False, True])
def test_an_exported_program_is_its_graph(count: Count, decomposed: bool) -> None:
    model = nn.Sequential(layer(), nn.ReLU(), layer())
    program = torch.export.export(model, (data(),))
    program = program.run_decompositions() if decomposed else program
    run = program.module()
    tally = count(lambda: run(data(grad=True)).sum().backward())
    assert (tally.forward, tally.backward, tally.unknown_ops) == (2 * PRODUCT, 4 * PRODUCT, ())


def test_a_symbolically_traced_program_keeps_its_modules(count: Count) -> None:
    run = torch.fx.symbolic_trace(nn.Sequential(layer(), nn.ReLU(), layer()))
    tally = count(lambda: run(data()))
    assert sorted(tally.by_module().values()) == [PRODUCT, PRODUCT]


class Tied(nn.Module):
    """One layer, run twice, and its weight once more as the head."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = layer(), layer()
        self.head.weight = self.layer.weight

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.head(self.layer(self.layer(x).relu()).relu())
        return result


def test_a_shared_weight_counts_for_each_use(count: Count) -> None:
    tally = count(lambda: Tied()(data(grad=True)).sum().backward())
    assert (tally.forward, tally.backward) == (3 * PRODUCT, 6 * PRODUCT)
    assert tally.by_module() == {"Tied.layer": 2 * 3 * PRODUCT, "Tied.head": 3 * PRODUCT}


class Recursive(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = layer()

    def forward(self, x: Tensor, depth: int) -> Tensor:
        x = self.layer(x)
        result: Tensor = self(x, depth - 1) if depth else x
        return result


def test_a_module_that_calls_itself(count: Count) -> None:
    tally = count(lambda: Recursive()(data(), 3))
    assert tally.by_module() == {"Recursive.layer": 4 * PRODUCT}


def test_accumulated_gradients_are_each_a_backward(count: Count) -> None:
    model = nn.Sequential(layer(), layer())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step() -> None:
        for _ in range(3):
            model(data()).sum().backward()
        optimizer.step()

    tally = count(step)
    # The input needs no gradient: three products backward, three times.
    assert (tally.forward, tally.backward, tally.optimizer) == (3 * 2 * PRODUCT, 3 * 3 * PRODUCT, 0)


def test_a_complex_multiply_add_is_eight(count: Count) -> None:
    x = torch.ones(4, 8, dtype=torch.complex64, requires_grad=True)
    w = torch.ones(8, 16, dtype=torch.complex64, requires_grad=True)
    tally = count(lambda: (x @ w).abs().sum().backward())
    assert (tally.forward, tally.backward) == (8 * 4 * 8 * 16, 2 * 8 * 4 * 8 * 16)


# A FutureWarning since torch 2.14.
@pytest.mark.filterwarnings("ignore:`torch.jit.trace")
@pytest.mark.parametrize(
    ("trace", "runs"),
    [
        (lambda model, x: torch.export.export(model, (x,)), 1),
        (lambda model, x: make_fx(model)(x), 1),
        (lambda model, x: torch.jit.trace(model, x, check_trace=False), 1),
    ],
)
def test_tracing_in_a_region_is_one_more_run(count: Count, trace: Callable[..., Any], runs: int) -> None:
    model, x = layer(), data()

    def program() -> None:
        model(x)
        trace(model, x)

    assert count(program).total == (1 + runs) * PRODUCT


def test_torch_builds_no_causal_bias_under_a_dispatch_mode(count: Count) -> None:
    with pytest.raises(RuntimeError, match="Creating a new Tensor subclass CausalBias"), FlopCounterMode(display=False):
        causal_lower_right(4, 8)
    with pytest.raises(RuntimeError, match="Creating a new Tensor subclass CausalBias"):
        count(lambda: causal_lower_right(4, 8))
    query, key, bias = torch.ones(1, 2, 4, 8), torch.ones(1, 2, 8, 8), causal_lower_right(4, 8)
    tally = count(lambda: nn.functional.scaled_dot_product_attention(query, key, key, attn_mask=bias))
    # 2 heads, 4 queries against 8 keys: 2*2*4*8*(8 + 8)
    assert (tally.total, tally.unknown_ops) == (2048, ())
