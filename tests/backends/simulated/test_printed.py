"""Printing on a simulated GPU: values that are known, an error for those that are not."""

from __future__ import annotations

import inspect

import pytest
import torch
from torch import nn

from pytest_flopguard.backends.simulated.machine import Machine
from pytest_flopguard.backends.simulated.value_reads import ValueRead


def line_of(offset: int) -> str:
    caller = inspect.currentframe().f_back  # type: ignore[union-attr]
    assert caller is not None
    return f"test_printed.py:{caller.f_lineno + offset} in {caller.f_code.co_name}"


def test_values_that_are_known(machine: Machine) -> None:
    with machine.running():
        assert repr(torch.tensor([1, 2, 3], device="cuda")) == "tensor([1, 2, 3], device='cuda:0')"
        assert f"{torch.arange(3)}" == "tensor([0, 1, 2])"
        assert f"{torch.tensor(2.5, device='cuda'):.2f}" == "2.50"


@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_values_that_nobody_knows(machine: Machine, device: str) -> None:
    with machine.running():
        x = torch.randn(100, 100, device=device)
        for show in (repr, str, print, lambda x: f"{x}", lambda x: f"{x.sum():.3f}"):
            with pytest.raises(ValueRead, match="value"):
                show(x)
        weight = nn.Linear(30, 30).weight
        with pytest.raises(ValueRead) as caught:
            f"the weights are {weight}"
        assert line_of(-1) in str(caught.value)


def test_torch_may_tell_shapes_in_its_errors(machine: Machine) -> None:
    with machine.running():
        x = torch.randn(100, 100, device="cuda")
        with pytest.raises(TypeError, match=r"but got list of|cat\(\)|expected Tensor"):
            torch.cat([x, "y"])  # type: ignore[list-item]
        with pytest.raises(RuntimeError, match="same reduction dim"):
            x @ torch.randn(3, 3, device="cuda")


def test_torch_puts_tensors_into_texts_while_a_kernel_runs(machine: Machine) -> None:
    # quantile interpolates by lerp_, whose checks write their text before they check.
    with machine.running():
        x = torch.randn(100, device="cuda")
        assert x.quantile(0.5).shape == x.quantile(torch.tensor(0.5, device="cuda")).shape == ()


def test_modules_and_parameters_are_told_by_shape(machine: Machine) -> None:
    with machine.running():
        assert repr(nn.ParameterList([nn.Parameter(torch.empty(40, device="cuda"))])).count("40") == 1


def test_printing_is_as_ever_afterwards(machine: Machine) -> None:
    with machine.running():
        x = torch.randn(100, 100, device="cuda")
    assert repr(x) == "FakeTensor(..., device='cuda:0', size=(100, 100))"
    assert repr(torch.ones(2)) == "tensor([1., 1.])"
