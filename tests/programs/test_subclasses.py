"""Tensor subclasses: a call counts as what the subclass does for it, once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing._internal.two_tensor import TwoTensor
from torch.utils._python_dispatch import (
    TorchDispatchMode,
    _get_current_dispatch_mode_stack,
    return_and_correct_aliasing,
)

from pytest_flopguard.core.measurement import FlopTally

Count = Callable[[Callable[[], Any]], FlopTally]
aten = torch.ops.aten


class Quantized(Tensor):
    """A weight kept as int8 with one scale, made float again for each product, as torchao's are."""

    q: Tensor
    scale: Tensor

    @staticmethod
    def __new__(cls, q: Tensor, scale: Tensor) -> Any:
        return Tensor._make_wrapper_subclass(cls, q.shape, dtype=scale.dtype, device=q.device)

    def __init__(self, q: Tensor, scale: Tensor) -> None:
        self.q, self.scale = q, scale

    def product(self, other: Tensor) -> Tensor:
        return other @ (self.q.to(self.scale.dtype) * self.scale)

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        first = args[0]
        if func in (aten.detach.default, aten.t.default):
            return return_and_correct_aliasing(func, args, kwargs or {}, cls(func(first.q), first.scale))
        if func in (aten.mm.default, aten.matmul.default):
            return args[1].product(first)
        if func is aten.linear.default:
            return cls(args[1].q.t(), args[1].scale).product(first)
        return NotImplemented


class LowRank(Quantized):
    """A weight that multiplies by two thin matrices instead."""

    def product(self, other: Tensor) -> Tensor:
        return (other @ torch.ones(8, 2)) @ torch.ones(2, 16)


class Diagonal(Quantized):
    """A weight whose product is elementwise."""

    def product(self, other: Tensor) -> Tensor:
        return other * self.scale


class Hidden(Quantized):
    """A weight that turns every watcher off while it works."""

    def product(self, other: Tensor) -> Tensor:
        with torch._C._DisableTorchDispatch():
            return other @ self.q.float()


class Through(Tensor):
    """A subclass that asks torch for its own behaviour, which torch gives out of every watcher's sight."""

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return super().__torch_dispatch__(func, types, args, kwargs or {})


class Named(Tensor):
    """A subclass that answers no op calls."""


def linear(kind: type[Quantized]) -> nn.Linear:
    layer = nn.Linear(8, 16, bias=False)
    weight: Any = kind
    q = torch.ones(16, 8, dtype=torch.int8)
    layer.weight = nn.Parameter(weight(q, torch.ones(1, 1)), requires_grad=False)
    return layer


PRODUCT = 2 * 4 * 8 * 16  # [4, 8] @ [8, 16]


@pytest.mark.parametrize("setting", [torch.enable_grad, torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize(
    # [4, 8] @ [8, 2], then [4, 2] @ [2, 16]
    ("kind", "flops"),
    [(Quantized, PRODUCT), (LowRank, 2 * 4 * 8 * 2 + 2 * 4 * 2 * 16)],
)
def test_a_product_is_the_one_that_the_inner_tensors_do(count: Count, kind: Any, flops: int, setting: Any) -> None:
    model = nn.Sequential(linear(kind))
    x = torch.ones(4, 8)
    with setting():
        tally = count(lambda: model(x))
    assert (tally.total, tally.unknown_ops) == (flops, ())
    assert tally.by_module() == {"Sequential.0": flops}


def test_gradients_flow_through_a_subclass_at_their_price(count: Count) -> None:
    model = linear(Quantized)
    tally = count(lambda: model(torch.ones(4, 8, requires_grad=True)).sum().backward())
    # The weight is frozen: the input's gradient alone, [4, 16] @ [16, 8].
    assert (tally.forward, tally.backward) == (PRODUCT, PRODUCT)


def test_a_subclass_of_two_tensors_does_each_product_twice(count: Count) -> None:
    both = TwoTensor(torch.ones(4, 8), torch.ones(4, 8))
    assert count(lambda: both @ torch.ones(8, 16)).total == 2 * PRODUCT
    nested = TwoTensor(both, both)
    assert count(lambda: nested @ torch.ones(8, 16)).total == 4 * PRODUCT


@pytest.mark.parametrize("kind", [Named, nn.Parameter])
def test_a_subclass_that_answers_nothing_is_a_tensor(count: Count, kind: Any) -> None:
    x = torch.ones(4, 8).as_subclass(kind)
    assert count(lambda: x @ torch.ones(8, 16)).total == PRODUCT


@pytest.mark.parametrize(
    ("program", "op", "name"),
    [
        (lambda: linear(Hidden)(torch.ones(4, 8)), "aten.mm", "Hidden"),
        (lambda: torch.ones(4, 8).as_subclass(Through) @ torch.ones(8, 16), "aten.mm", "Through"),
        # No product either, but nobody can tell it from the ones above.
        (lambda: linear(Diagonal)(torch.ones(1, 1)), "aten.mm", "Diagonal"),
    ],
)
def test_a_product_out_of_sight_is_unknown(count: Count, program: Any, op: str, name: str) -> None:
    tally = count(program)
    (unknown,) = tally.unknown_ops
    assert (unknown.op, unknown.reason) == (op, f"{name} answered it out of sight")
    assert tally.total is None


def test_what_is_no_product_may_stay_out_of_sight(count: Count) -> None:
    tally = count(lambda: torch.ones(4).as_subclass(Through).relu().sum().view(1))
    assert (tally.total, tally.unknown_ops) == (0, ())


def test_a_call_that_a_subclass_refuses_is_refused_as_ever(count: Count) -> None:
    weight = linear(Quantized).weight
    with pytest.raises(TypeError, match="__torch_dispatch__") as alone:
        weight.exp()
    with pytest.raises(TypeError, match="__torch_dispatch__") as watched:
        count(lambda: weight.exp())
    assert "Quantized" in str(alone.value)
    assert "Quantized" in str(watched.value)
    assert _get_current_dispatch_mode_stack() == []


class Logging(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, str]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen.append((str(func), ", ".join(each.__name__ for each in types)))
        return func(*args, **(kwargs or {}))


def test_modes_outside_see_what_they_would_have_seen(count: Count) -> None:
    model, x = linear(Quantized), torch.ones(4, 8)
    first, second = Logging(), Logging()
    with first, second:
        model(x)
    alone = first.seen, second.seen
    first.seen, second.seen = [], []
    with first, second:
        assert count(lambda: model(x)).total == PRODUCT
        assert _get_current_dispatch_mode_stack() == [first, second]
    assert (first.seen, second.seen) == alone
    # The transposition and the product, and nothing of what the subclass did for them.
    assert [op for op, _ in first.seen] == ["aten.t.default", "aten.mm.default"]


class Doubling(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is aten.mm.default:
            return args[0] @ args[1] + args[0] @ args[1]
        return func(*args, **(kwargs or {}))


def test_what_a_mode_makes_of_a_subclass_call_is_counted(count: Count) -> None:
    model = linear(Quantized)

    def inside() -> None:
        with Doubling():
            model(torch.ones(4, 8))

    assert count(inside).total == 2 * PRODUCT
    with Doubling():
        assert count(lambda: model(torch.ones(4, 8))).total == 2 * PRODUCT
