"""Which phase an op call belongs to: forward, backward, recompute or optimizer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from pytest_flopguard.backends.dispatch import DispatchFlops
from pytest_flopguard.core.measurement import FlopTally
from pytest_flopguard.formulas.registry import Registry

Count = Callable[[Callable[[], Any]], FlopTally]
Calls = dict[tuple[str, str], int]
# [4, 8] @ [8, 8]: 2 * 4 * 8 * 8
PRODUCT = 512


def layer() -> nn.Linear:
    return nn.Linear(8, 8, bias=False)


def data(grad: bool = False) -> Tensor:
    return torch.ones(4, 8, requires_grad=grad)


def calls(tally: FlopTally) -> Calls:
    """Calls of products by module and phase."""
    found: Calls = {}
    for each in tally.counts:
        if each.kind == "counted":
            key = (each.module, each.phase)
            found[key] = found.get(key, 0) + each.calls
    return found


class Checkpointed(nn.Module):
    def __init__(self, reentrant: bool) -> None:
        super().__init__()
        self.block = nn.Sequential(layer(), nn.ReLU(), layer())
        self.reentrant = reentrant

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = checkpoint(self.block, x, use_reentrant=self.reentrant)
        return result


def functional(x: Tensor, weight: Tensor) -> Tensor:
    return (x @ weight).relu() @ weight


@pytest.mark.parametrize(("reentrant", "recomputed"), [(True, 2), (False, 1)])
@pytest.mark.parametrize("modules", [True, False])
def test_checkpointing_recomputes(count: Count, reentrant: bool, recomputed: int, modules: bool) -> None:
    weight = torch.ones(8, 8, requires_grad=True)
    if modules:
        tally = count(lambda: Checkpointed(reentrant)(data(grad=True)).sum().backward())
    else:
        tally = count(lambda: checkpoint(functional, data(True), weight, use_reentrant=reentrant).sum().backward())
    # Without reentrance recomputing stops at the last saved input, so the last product is not done again:
    # 2 + 2 + 4 and 2 + 1 + 4 products, 4x and 3.5x the forward.
    assert (tally.forward, tally.recompute, tally.backward) == (2 * PRODUCT, recomputed * PRODUCT, 4 * PRODUCT)
    assert tally.optimizer == 0


def test_recomputed_work_belongs_to_the_module_that_it_is_of(count: Count) -> None:
    model = Checkpointed(reentrant=True)
    tally = count(lambda: model(data(grad=True)).sum().backward())
    for place in ("Checkpointed.block.0", "Checkpointed.block.2"):
        one = {phase: number for (module, phase), number in calls(tally).items() if module == place}
        assert one == {"forward": 1, "recompute": 1, "backward": 2}
    assert len(tally.by_module()) == 2


def test_checkpoints_of_one_model_are_each_told(count: Count) -> None:
    model = nn.Sequential(Checkpointed(reentrant=False), Checkpointed(reentrant=True))
    tally = count(lambda: model(data(grad=True)).sum().backward())
    assert (tally.forward, tally.recompute, tally.backward) == (4 * PRODUCT, 3 * PRODUCT, 8 * PRODUCT)
    assert calls(tally)["Sequential.1.block.2", "recompute"] == 1
    assert ("Sequential.0.block.2", "recompute") not in calls(tally)


class WithFrozenPart(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.frozen, self.trained = layer(), layer()

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            x = self.frozen(x)
        result: Tensor = self.trained(x.relu()).relu()
        return result


def test_work_without_gradients_is_recomputed_too(count: Count) -> None:
    model = WithFrozenPart()
    tally = count(lambda: checkpoint(model, data(grad=True), use_reentrant=True).sum().backward())
    # The frozen part has no gradients, the input of the trained part needs none.
    assert (tally.forward, tally.recompute, tally.backward) == (2 * PRODUCT, 2 * PRODUCT, PRODUCT)


# Backward of backward


def test_a_backward_that_keeps_its_graph_is_not_recompute(count: Count) -> None:
    model = nn.Sequential(layer(), nn.Tanh(), layer())

    def penalty() -> None:
        x = data(grad=True)
        (gradient,) = torch.autograd.grad(model(x).square().sum(), x, create_graph=True)
        gradient.square().sum().backward()

    tally = count(penalty)
    assert (tally.forward, tally.recompute) == (2 * PRODUCT, 0)
    # The input's gradient in two layers, two gradients of each of these two products, and what tanh and the square
    # make depend on the forward: two gradients of each of its products.
    assert tally.backward == (2 + 4 + 4) * PRODUCT


def test_a_checkpoint_is_recomputed_for_each_backward(count: Count) -> None:
    model = Checkpointed(reentrant=False)

    def penalty() -> None:
        x = data(grad=True)
        (gradient,) = torch.autograd.grad(model(x).square().sum(), x, create_graph=True)
        gradient.square().sum().backward()

    tally = count(penalty)
    # Both backwards need what lies before the last product.
    assert (tally.forward, tally.recompute, tally.backward) == (2 * PRODUCT, 2 * PRODUCT, 10 * PRODUCT)


class Gradient(nn.Module):
    """A module that differentiates inside of its forward, as force fields do."""

    def __init__(self) -> None:
        super().__init__()
        self.energy = layer()

    def forward(self, x: Tensor) -> Tensor:
        with torch.enable_grad():
            return torch.autograd.grad(self.energy(x).sum(), x)[0]


def test_a_backward_inside_of_a_forward_is_a_backward(count: Count) -> None:
    tally = count(lambda: Gradient()(data(grad=True)))
    assert calls(tally) == {("Gradient.energy", "forward"): 1, ("Gradient.energy", "backward"): 1}


def test_a_hook_on_a_tensor_works_in_backward(count: Count) -> None:
    def program() -> None:
        hidden = layer()(data(grad=True))
        hidden.register_hook(lambda grad: grad @ torch.ones(8, 8))
        hidden.sum().backward()

    tally = count(program)
    assert (tally.forward, tally.backward, tally.recompute) == (PRODUCT, 3 * PRODUCT, 0)


# Optimizers


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.AdamW, torch.optim.Adagrad])
@pytest.mark.parametrize("way", [{"foreach": True}, {"fused": True}, {"foreach": False}])
def test_elementwise_optimizers_are_known_and_free_of_products(count: Count, kind: Any, way: dict[str, bool]) -> None:
    model = nn.Sequential(layer(), layer())
    optimizer = kind(model.parameters(), lr=0.1, **way)

    def step() -> None:
        model(data(grad=True)).sum().backward()
        optimizer.step()
        optimizer.zero_grad()

    tally = count(step)
    assert (tally.forward, tally.backward, tally.optimizer) == (2 * PRODUCT, 4 * PRODUCT, 0)
    assert tally.unknown_ops == ()


# Newton-Schulz on [8, 16], five times: X X^T, A A and B X are 2*8*16*8, 2*8*8*8 and 2*8*8*16.
MUON = 5 * (2048 + 1024 + 2048)


def test_products_of_an_optimizer_are_its_own(count: Count) -> None:
    weight = nn.Parameter(torch.randn(8, 16))
    optimizer = torch.optim.Muon([weight], lr=0.1)

    def step() -> None:
        (data() @ weight).sum().backward()
        optimizer.step()
        data() @ torch.ones(8, 8)

    tally = count(step)
    # The weight's gradient alone: 2*4*8*16.
    assert (tally.forward, tally.backward, tally.optimizer) == (1024 + PRODUCT, 1024, MUON)
    assert calls(tally)["", "optimizer"] == 15


def test_an_optimizer_that_steps_inside_of_backward_is_told_apart(count: Count) -> None:
    model = nn.Sequential(nn.Linear(8, 16, bias=False), nn.Linear(16, 8, bias=False))
    for weight in model.parameters():
        optimizer = torch.optim.Muon([weight], lr=0.1)
        weight.register_post_accumulate_grad_hook(lambda _, optimizer=optimizer: optimizer.step())
    tally = count(lambda: model(data(grad=True)).sum().backward())
    assert (tally.forward, tally.backward, tally.optimizer) == (2048, 4096, 2 * MUON)


@pytest.mark.parametrize("modules", [True, False])
def test_what_a_closure_does_is_no_work_of_the_optimizer(count: Count, modules: bool) -> None:
    model = layer()
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=2)

    def closure() -> Any:
        optimizer.zero_grad()
        output = model(data()) if modules else data() @ model.weight.T
        loss = output.square().sum()
        loss.backward()
        return loss

    tally = count(lambda: optimizer.step(closure))
    # Two evaluations, each one product and the weight's gradient. L-BFGS itself takes dot products of 64 numbers.
    assert (tally.forward, tally.backward) == (2 * PRODUCT, 2 * PRODUCT)
    optimizer_calls = {phase for (_, phase) in calls(tally)}
    assert "optimizer" in optimizer_calls
    assert tally.optimizer is not None
    assert tally.optimizer % (2 * 64) == 0


def test_a_step_that_raised_does_not_last(costs: Registry) -> None:
    class Failing(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            raise RuntimeError("no step")

    optimizer = Failing(layer().parameters(), lr=0.1)
    with DispatchFlops(costs) as engine:
        with pytest.raises(RuntimeError, match="no step"):
            optimizer.step()
        mark = engine.begin()
        data() @ torch.ones(8, 8)
        assert engine.end(mark).forward == PRODUCT
