"""Which parameters ran: each once, whatever happened to the models that had them."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.testing._internal.two_tensor import TwoTensor

from pytest_flopguard.backends.dispatch import DispatchFlops
from pytest_flopguard.core.measurement import ParameterCount
from pytest_flopguard.formulas.registry import Registry


def layer() -> nn.Linear:
    return nn.Linear(8, 8, bias=False)


def data() -> Tensor:
    return torch.ones(4, 8)


def parameters_of(costs: Registry, program: Callable[[], Any]) -> ParameterCount | None:
    with DispatchFlops(costs) as engine:
        mark = engine.begin()
        program()
        gc.collect()
        return engine.parameters(mark)


def test_parameters_of_models_that_ran_are_counted_once(costs: Registry) -> None:
    tied = layer()
    model, other = nn.Sequential(tied, nn.Sequential(layer(), tied), layer()), nn.Linear(8, 4).half()
    # Three layers [8, 8], one of them under two names.
    one = parameters_of(costs, lambda: [model(data()), model(data())])
    assert one == ParameterCount(count=3 * 64, bytes=3 * 64 * 4)
    both = parameters_of(costs, lambda: [model(data()), other(data().half())])
    # And [4, 8] with a bias of 4, 2 bytes each.
    assert both == ParameterCount(count=192 + 36, bytes=768 + 72)
    assert parameters_of(costs, lambda: data() @ data().T) is None
    assert parameters_of(costs, lambda: nn.ReLU()(data())) == ParameterCount(count=0, bytes=0)


def test_parameters_count_by_region(costs: Registry) -> None:
    model, other = layer(), nn.Linear(8, 2, bias=False)
    with DispatchFlops(costs) as engine:
        outer = engine.begin()
        model(data())
        inner = engine.begin()
        other(data())
        assert engine.parameters(inner) == ParameterCount(count=16, bytes=64)
        assert engine.parameters(outer) == ParameterCount(count=80, bytes=320)


def test_a_later_model_is_not_taken_for_one_that_is_gone(costs: Registry) -> None:
    def many() -> None:
        for _ in range(50):
            layer()(data())
            gc.collect(1)  # what is old lives on, and would be visited 50 times

    # Addresses are used again and again; 50 models of 64 parameters are that many.
    assert parameters_of(costs, many) == ParameterCount(count=50 * 64, bytes=50 * 256)


def test_a_part_that_outlives_its_models_is_counted_once(costs: Registry) -> None:
    shared = layer()
    found = parameters_of(costs, lambda: [nn.Sequential(shared, layer())(data()) for _ in range(3)])
    assert found == ParameterCount(count=4 * 64, bytes=4 * 256)


def test_lazy_parameters_count_once_they_are_there(costs: Registry) -> None:
    model = nn.LazyLinear(3, bias=False)
    assert parameters_of(costs, lambda: model(data())) == ParameterCount(count=24, bytes=96)


def test_parameters_without_a_storage_are_counted(costs: Registry) -> None:
    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.two = nn.Parameter(TwoTensor(torch.ones(4), torch.ones(4)))
            self.sparse = nn.Parameter(torch.eye(3).to_sparse())

        def forward(self) -> None:
            pass

    model = Wrapped()
    # 4 and 9 elements: a sparse one counts as what it stands for.
    assert parameters_of(costs, lambda: [model(), model()]) == ParameterCount(count=13, bytes=52)


def test_a_model_can_be_converted_while_it_is_watched(costs: Registry) -> None:
    model = layer()
    torch.__future__.set_swap_module_params_on_conversion(True)
    try:
        # Swapping tensors is refused where somebody holds a weak reference to one.
        assert parameters_of(costs, lambda: [model(data()), model.double()]) == ParameterCount(count=64, bytes=512)
    finally:
        torch.__future__.set_swap_module_params_on_conversion(False)
