"""Which module an op call belongs to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pytest_flopguard.core.measurement import FlopTally

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


class Block(nn.Module):
    """A block whose parts are reached in every way."""

    def __init__(self) -> None:
        super().__init__()
        self.shared = layer()
        self.parts = nn.ModuleList([layer(), nn.Sequential(layer(), nn.ReLU(), layer())])
        self.by_name = nn.ModuleDict({"key": self.shared})
        self.direct = layer()

    def forward(self, x: Tensor) -> Tensor:
        x = self.by_name["key"](self.shared(x))
        for part in self.parts:
            x = part(x)
        x = self.direct.forward(x)
        return x @ x.T


def test_products_belong_to_the_innermost_called_module(count: Count) -> None:
    assert calls(count(lambda: Block()(data()))) == {
        # A module under two names keeps the first.
        ("Block.shared", "forward"): 2,
        ("Block.parts.0", "forward"): 1,
        ("Block.parts.1.0", "forward"): 1,
        ("Block.parts.1.2", "forward"): 1,
        # ``forward`` called directly is the caller's, and so is what it does itself.
        ("Block", "forward"): 2,
    }


def test_gradients_belong_to_the_module_of_their_forward(count: Count) -> None:
    tally = count(lambda: Block()(data(grad=True)).sum().backward())
    forward = {module: number for (module, phase), number in calls(tally).items() if phase == "forward"}
    backward = {module: number for (module, phase), number in calls(tally).items() if phase == "backward"}
    # Two gradients for each product.
    assert backward == {module: 2 * number for module, number in forward.items()}


def test_roots_of_one_class_are_told_apart(count: Count) -> None:
    first, second, other = layer(), layer(), nn.Sequential(layer())
    tally = count(lambda: [each(data()) for each in (first, second, first, other)])
    assert tally.by_module() == {"Linear": 2 * PRODUCT, "Linear#2": PRODUCT, "Sequential.0": PRODUCT}


def test_work_outside_of_modules_has_no_module(count: Count) -> None:
    tally = count(lambda: layer()(data()) @ torch.ones(8, 8))
    assert tally.by_module() == {"": PRODUCT, "Linear": PRODUCT}


class Growing(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if not hasattr(self, "late"):
            self.late = layer()
        passing = layer()
        result: Tensor = passing(self.late(x))
        return result


def test_parts_that_come_later_are_found_and_passing_ones_are_named_by_class(count: Count) -> None:
    model = Growing()
    tally = count(lambda: [model(data()) for _ in range(2)])
    assert tally.by_module() == {"Growing.Linear": 2 * PRODUCT, "Growing.late": 2 * PRODUCT}


def test_what_hooks_do_before_is_the_modules_and_after_it_the_callers(count: Count) -> None:
    model = nn.Sequential(layer(), layer())
    model[0].register_forward_pre_hook(lambda module, args: args[0] @ torch.ones(8, 8))
    model[1].register_forward_hook(lambda module, args, output: output @ torch.ones(8, 8))
    assert calls(count(lambda: model(data()))) == {
        ("Sequential.0", "forward"): 2,
        ("Sequential.1", "forward"): 1,
        ("Sequential", "forward"): 1,
    }


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_a_traced_model_has_its_modules(count: Count) -> None:
    model = torch.jit.trace(nn.Sequential(layer(), layer()), (data(),))
    tally = count(lambda: model(data()))
    assert (tally.total, tally.unknown_ops) == (2 * PRODUCT, ())


class Raising(nn.Module):
    def __init__(self, error: type[BaseException]) -> None:
        super().__init__()
        self.before = layer()
        self.error = error

    def forward(self, x: Tensor) -> Tensor:
        self.before(x)
        raise self.error


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_module_that_raises_is_left(count: Count, error: type[BaseException]) -> None:
    raising, after = Raising(error), layer()

    class Catching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.raising, self.after = raising, after

        def forward(self, x: Tensor) -> Tensor:
            with pytest.raises(error):
                self.raising(x)
            result: Tensor = self.after(x)
            return result

    model = Catching()
    tally = count(lambda: [model(data()), data() @ torch.ones(8, 8)])
    assert calls(tally) == {
        ("Catching.raising.before", "forward"): 1,
        ("Catching.after", "forward"): 1,
        ("", "forward"): 1,
    }
