"""What the bytes at the peak are for: parameters, gradients, optimizer state, activations, inputs, other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from pytest_flopguard.backends.live_storage import LiveStorage
from pytest_flopguard.backends.op_watch import OpWatch
from pytest_flopguard.core.measurement import MemoryPeak
from pytest_flopguard.formulas.registry import Registry

Peak = Callable[[Callable[[], Any]], MemoryPeak]
BIG = 1_000_000
# A layer [8, 8] without bias: 64 floats. Rows [4, 8]: 32 floats.
WEIGHT, ROWS = 256, 128


@pytest.fixture
def peak(costs: Registry) -> Peak:
    """Return the peak of a program on one device."""

    def peak(program: Callable[[], Any]) -> MemoryPeak:
        with LiveStorage(OpWatch(costs)) as memory:
            scope = memory.begin()
            program()
            found = memory.end(scope)
        assert isinstance(found, tuple), found
        (one,) = found
        assert sum(one.by_category.values()) == one.peak_bytes
        return one

    return peak


def at_rest(program: Callable[[], Any]) -> Callable[[], None]:
    """Do something, then allocate so much that the peak is after it, when it has come to rest."""

    def rest() -> None:
        kept = program()
        torch.empty(BIG, dtype=torch.uint8)
        del kept

    return rest


def categories(peak: MemoryPeak, rest: bool = True) -> dict[str, int]:
    """Return the categories that hold bytes, less the big tensor at the end."""
    found = dict(peak.by_category)
    if rest:
        found["inputs"] -= BIG
    return {name: number for name, number in found.items() if number}


def layer() -> nn.Linear:
    return nn.Linear(8, 8, bias=False)


def rows(grad: bool = False) -> Tensor:
    return torch.ones(4, 8, requires_grad=grad)


@pytest.mark.parametrize("inside", [True, False])
def test_parameters_of_a_model_that_ran(peak: Peak, inside: bool) -> None:
    made = layer()

    def program() -> Any:
        model = layer() if inside else made
        x = rows()
        return x, model, model(x)

    found = peak(at_rest(program))
    assert categories(found) == {"parameters": WEIGHT, "inputs": ROWS, "activations": ROWS}
    assert found.start_bytes == (0 if inside else WEIGHT)


def test_a_model_that_never_ran_is_an_input(peak: Peak) -> None:
    assert categories(peak(at_rest(layer))) == {"inputs": WEIGHT}


def test_buffers_are_other(peak: Peak) -> None:
    model = nn.BatchNorm1d(8)
    # Weight and bias of 8; running mean and variance of 8 and a count of 8 bytes; the mean and the inverse deviation
    # that are kept for backward.
    found = categories(peak(at_rest(lambda: (model, model(rows(grad=True))))))
    assert found == {"parameters": 64, "other": 64 + 8, "inputs": ROWS, "activations": ROWS + 64}


def test_gradients_are_what_backward_leaves(peak: Peak) -> None:
    model = nn.Sequential(layer(), layer())
    x = rows()

    def backward() -> None:
        model(x).sum().backward()

    found = categories(peak(at_rest(backward)))
    assert found == {"parameters": 2 * WEIGHT, "gradients": 2 * WEIGHT, "inputs": ROWS}
    # A second one is added in place; what is set to nothing is given back.
    assert categories(peak(at_rest(backward)))["gradients"] == 2 * WEIGHT
    assert "gradients" not in categories(peak(at_rest(lambda: [backward(), model.zero_grad(set_to_none=True)])))


def test_a_gradient_that_is_taken_over_is_not_copied(peak: Peak) -> None:
    weight = torch.ones(8, 8, requires_grad=True)
    found = peak(lambda: (weight * 2).sum().backward())
    # weight * 2 of 256 and its sum of 4; the gradient of the sum, of 4; the gradient of the weight, 256, and the 2 that
    # it is multiplied with is no tensor. What is multiplied is let go at the sum.
    assert found.peak_bytes == WEIGHT + max(WEIGHT + 4, 4 + 4 + WEIGHT)
    assert weight.grad is not None


def test_gradients_from_before_are_gradients(peak: Peak) -> None:
    model = layer()
    model(rows()).sum().backward()
    found = peak(at_rest(lambda: model(rows()).detach().clone()))
    assert categories(found) == {"parameters": WEIGHT, "gradients": WEIGHT, "activations": ROWS}
    assert found.start_bytes == 2 * WEIGHT


@pytest.mark.parametrize(
    ("make", "state"),
    [
        (lambda p: torch.optim.SGD(p, lr=0.1), 0),
        (lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9), WEIGHT),
        # Two moments, and the step as one float.
        (lambda p: torch.optim.AdamW(p, lr=0.1), 2 * WEIGHT + 4),
        (lambda p: torch.optim.AdamW(p, lr=0.1, amsgrad=True, foreach=True), 3 * WEIGHT + 4),
        (lambda p: torch.optim.AdamW(p, lr=0.1, fused=True), 2 * WEIGHT + 4),
    ],
)
def test_optimizer_state_is_what_steps_leave(peak: Peak, make: Any, state: int) -> None:
    model = layer()
    optimizer = make(model.parameters())

    def step() -> None:
        model(rows()).sum().backward()
        optimizer.step()

    expected = {"parameters": WEIGHT, "gradients": WEIGHT} | ({"optimizer_state": state} if state else {})
    assert categories(peak(at_rest(step))) == expected
    # The second step finds it there.
    found = peak(at_rest(step))
    assert categories(found) == expected
    assert found.start_bytes == 2 * WEIGHT + state


def test_the_most_of_a_forward_is_what_it_keeps_for_backward(peak: Peak) -> None:
    model = nn.Sequential(layer(), nn.Sigmoid(), layer())
    found = peak(lambda: model(rows()))
    # The input, the sigmoid's result, and the last result, all kept; the first layer's result is let go when the
    # sigmoid has read it: before the last one is made.
    assert categories(found, rest=False) == {"parameters": 2 * WEIGHT, "inputs": ROWS, "activations": 2 * ROWS}


def test_checkpointing_keeps_less(peak: Peak) -> None:
    model = nn.Sequential(*(nn.Sequential(layer(), nn.Sigmoid(), layer()) for _ in range(8)))
    x = rows(grad=True)

    def forward(part: Callable[..., Any]) -> Any:
        hidden = x
        for each in model:
            hidden = part(each, hidden)
        return hidden

    plain = peak(at_rest(lambda: forward(lambda each, hidden: each(hidden))))
    kept = peak(at_rest(lambda: forward(lambda each, hidden: checkpoint(each, hidden, use_reentrant=True))))
    # Each block keeps the sigmoid's result and gives its own; checkpointed, only its own is there.
    assert categories(plain) == {"parameters": 16 * WEIGHT, "inputs": ROWS, "activations": 16 * ROWS}
    assert categories(kept) == {"parameters": 16 * WEIGHT, "inputs": ROWS, "activations": 8 * ROWS}


def test_what_is_recomputed_is_an_activation_again(peak: Peak) -> None:
    model = nn.Sequential(layer(), nn.Sigmoid(), layer())
    loss = checkpoint(model, torch.ones(1000, 8, requires_grad=True), use_reentrant=True).sum()
    found = peak(loss.backward)
    # [1000, 8] is 32,000 bytes. At the sigmoid's backward: its result and the last result, done again, and the two
    # gradients that go through it. The second layer has its gradient by then; the loss and its gradient take 4 each.
    assert categories(found, rest=False) == {
        "parameters": 2 * WEIGHT,
        "gradients": WEIGHT,
        "activations": 64_000 + 4,
        "inputs": 32_000 + 4,
        "temporaries": 64_000,
    }


def test_peaks_repeat_exactly(peak: Peak) -> None:
    def step() -> None:
        model = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        optimizer = torch.optim.AdamW(model.parameters())
        for _ in range(2):
            model(torch.ones(2, 5, 8)).sum().backward()
            optimizer.step()
            optimizer.zero_grad()

    assert peak(step) == peak(step) == peak(step)


def test_lazy_modules_and_sparse_gradients_do_no_harm(peak: Peak, costs: Registry) -> None:
    model = nn.Sequential(nn.LazyLinear(8, bias=False), nn.LazyBatchNorm1d())
    assert categories(peak(at_rest(lambda: model(rows()).clone())))["parameters"] == WEIGHT + 64
    embedding = nn.Embedding(10, 8, sparse=True)
    with LiveStorage(OpWatch(costs)) as memory:
        scope = memory.begin()
        embedding(torch.tensor([1, 2])).sum().backward()
        found = memory.end(scope)
    # The 10x8 weight; then the loss and its gradient of 4 bytes each, the 2 int64 indices, and a sparse gradient of its
    # own with 2 indices and 2x8 values.
    assert [(each.start_bytes, each.growth_bytes) for each in found] == [(320, 4 + 4 + 16 + 16 + 64)]
