"""Bytes per parameter of recipes and optimizers, against what torch really holds after a step."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
import torch
from torch import nn, optim

from pytest_flopguard.core.errors import SizeError, UnknownNameError
from pytest_flopguard.formulas.memory.optimizers import (
    OPTIMIZERS,
    OptimizerState,
    counter_bytes,
    optimizer,
    state_bytes,
)
from pytest_flopguard.formulas.memory.recipes import RECIPES, Recipe, training_recipe

# [37, 24] + 37 + [5, 37] + 5 = 888 + 37 + 185 + 5 = 1115 parameters in four tensors
PARAMETERS, TENSORS = 1115, 4
MAKE: dict[str, tuple[type[optim.Optimizer], dict[str, Any]]] = {
    "sgd": (optim.SGD, {}),
    "sgd-momentum": (optim.SGD, {"momentum": 0.9}),
    "adam": (optim.Adam, {}),
    "adam-amsgrad": (optim.Adam, {"amsgrad": True}),
    "adamw": (optim.AdamW, {}),
    "adamw-amsgrad": (optim.AdamW, {"amsgrad": True}),
    "adamax": (optim.Adamax, {}),
    "nadam": (optim.NAdam, {}),
    "radam": (optim.RAdam, {}),
    "adagrad": (optim.Adagrad, {}),
    "adadelta": (optim.Adadelta, {}),
    "rmsprop": (optim.RMSprop, {}),
    "rmsprop-momentum": (optim.RMSprop, {"momentum": 0.9}),
    "rmsprop-centered": (optim.RMSprop, {"centered": True}),
    "rprop": (optim.Rprop, {}),
}


def step(name: str, dtype: torch.dtype, *, autocast: bool = False) -> tuple[nn.Module, optim.Optimizer]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(24, 37), nn.Linear(37, 5)).to(dtype)
    make, options = MAKE[name]
    found = make(model.parameters(), lr=0.01, **options)
    with torch.autocast("cpu", torch.bfloat16) if autocast else contextlib.nullcontext():
        loss = model(torch.randn(3, 24, dtype=dtype)).float().sum()
    loss.backward()
    found.step()
    return model, found


def held(model: nn.Module, stepped: optim.Optimizer) -> tuple[int, int, int, int]:
    """Bytes of weights, gradients, moments (more than one element) and counters."""
    weights = sum(each.nbytes for each in model.parameters())
    gradients = sum(each.grad.nbytes for each in model.parameters() if each.grad is not None)
    state = [each for row in stepped.state.values() for each in row.values() if isinstance(each, torch.Tensor)]
    counters = sum(each.nbytes for each in state if each.ndim == 0)
    return weights, gradients, sum(each.nbytes for each in state) - counters, counters


def test_every_optimizer_is_held_to_torch() -> None:
    assert set(MAKE) == set(OPTIMIZERS)


@pytest.mark.parametrize(("name", "dtype"), [(name, dtype) for name in MAKE for dtype in ("float32", "bfloat16")])
def test_states_of_real_optimizers(name: str, dtype: str) -> None:
    _, _, moments, counters = held(*step(name, getattr(torch, dtype)))
    assert moments == state_bytes(PARAMETERS, of=name, dtype=dtype)
    assert counters == counter_bytes(TENSORS, of=name)


# Weights + gradients + states per parameter: 4 + 4 + 8, 2 + 2 + 4, 4 + 4 + 0, 4 + 4 + 4.
@pytest.mark.parametrize(
    ("recipe", "name", "dtype", "total"),
    [
        ("fp32-adamw", "adamw", "float32", 16),
        ("bf16-adamw", "adamw", "bfloat16", 8),
        ("fp32-sgd", "sgd", "float32", 8),
        ("fp32-sgd-momentum", "sgd-momentum", "float32", 12),
    ],
)
def test_recipes_that_torch_runs(recipe: str, name: str, dtype: str, total: int) -> None:
    weights, gradients, moments, _ = held(*step(name, getattr(torch, dtype)))
    found = training_recipe(recipe)
    assert (weights, gradients, moments) == (
        found.weights * PARAMETERS,
        found.gradients * PARAMETERS,
        found.optimizer * PARAMETERS,
    )
    assert found.total == total


def test_autocast_changes_no_state() -> None:
    weights, gradients, moments, _ = held(*step("adamw", torch.float32, autocast=True))
    assert weights + gradients + moments == training_recipe("fp32-adamw").total * PARAMETERS


# As printed: ZeRO section 3.1 (16), Megatron-LM (18), a systems engineer's analysis of Llama 3 section 2.15 (20);
# Transformer Math 101: 6 bytes for an 8-bit optimizer, 8 for SGD with momentum, master copies included.
@pytest.mark.parametrize(
    ("recipe", "total", "for_the_optimizer"),
    [
        ("mixed-adamw", 16, 12),
        ("megatron-adamw", 18, 12),
        ("mixed-adamw-fp32-gradients-kept", 20, 12),
        ("mixed-adamw-8bit", 10, 6),
        ("mixed-sgd-momentum", 12, 8),
    ],
)
def test_printed_recipes(recipe: str, total: int, for_the_optimizer: int) -> None:
    found = RECIPES[recipe]
    assert (found.total, found.optimizer) == (total, for_the_optimizer)
    assert found.source


def test_rows_of_ones_own() -> None:
    lion = OptimizerState(name="lion", moments=1)
    assert optimizer(lion) is lion
    assert state_bytes(10, of=lion, dtype="fp32") == 40
    mine = Recipe(name="mine", weights=1, gradients=2, master=2, states=2, source="here")
    assert training_recipe(mine).total == 7


def test_unknown_names() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown optimizer 'adanw'.*did you mean 'adamw'"):
        state_bytes(1, of="adanw", dtype="fp32")
    with pytest.raises(UnknownNameError, match=r"unknown training recipe 'fp32-adam'.*did you mean 'fp32-adamw'"):
        training_recipe("fp32-adam")


def test_bad_sizes() -> None:
    with pytest.raises(SizeError, match="parameters = -1"):
        state_bytes(-1, of="sgd", dtype="fp32")
    with pytest.raises(SizeError, match=r"parameter tensors = 1\.5"):
        counter_bytes(1.5, of="adam")  # type: ignore[arg-type]
