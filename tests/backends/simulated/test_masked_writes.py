"""Writes through boolean masks on a simulated GPU: one number needs no values, several need those of the mask."""

from __future__ import annotations

import pytest
import torch

from pytest_flopguard.backends.simulated.machine import Machine
from pytest_flopguard.backends.simulated.value_reads import ValueRead

pytestmark = pytest.mark.usefixtures("running")


def test_a_number_is_written_where_nobody_knows(machine: Machine) -> None:
    scores = torch.randn(64, 64, device="cuda")
    mask = scores > 0
    before = machine.allocator.stats.allocated.current
    scores[mask] = -1.5
    # masked_fill_ takes nothing: no positions, no storage of cub.
    assert machine.allocator.stats.allocated.peak == before
    assert machine.unknown == ()


def test_its_derivative_does_so_too(machine: Machine) -> None:
    weight = torch.randn(64, 64, device="cuda", requires_grad=True)
    scores = weight * 2
    scores[scores > 0] = 0.0
    scores.sum().backward()
    assert weight.grad is not None
    assert weight.grad.shape == (64, 64)


def test_known_numbers_stay_known() -> None:
    ids = torch.arange(6, device="cuda").reshape(2, 3)
    ids[ids > 3] = -100
    assert ids.tolist() == [[0, 1, 2], [3, -100, -100]]
    ids[:, torch.tensor([True, False, True], device="cuda")] = 7
    assert ids.tolist() == [[7, 1, 7], [7, -100, 7]]
    ids[torch.tensor([False, True], device="cuda")] = 0
    assert ids.tolist() == [[7, 1, 7], [0, 0, 0]]


def test_unknown_masks_make_the_numbers_unknown() -> None:
    ids = torch.arange(64, device="cuda")
    ids[torch.randn(64, device="cuda") > 0] = 7
    with pytest.raises(ValueRead):
        ids.tolist()


def test_a_copy_lies_as_what_it_is_a_copy_of(machine: Machine) -> None:
    # index_put clones with preserve_format; masked_fill by itself would not.
    turned = torch.randn(64, 32, device="cuda").t()
    before = machine.allocator.stats.allocated.current
    written = torch.index_put(turned, (turned > 0,), torch.tensor(3.0))
    assert written.stride() == turned.stride()
    assert machine.allocator.stats.allocated.current - before == 64 * 32 * 4


@pytest.mark.parametrize("accumulate", [False, True])
def test_numbers_on_the_gpu_and_sums_need_positions(accumulate: bool) -> None:
    scores = torch.randn(64, 64, device="cuda")
    value = torch.tensor(1.0, device="cpu" if accumulate else "cuda")
    with pytest.raises(ValueRead, match="nonzero"):
        scores.index_put_((scores > 0,), value, accumulate=accumulate)


def test_a_mask_of_another_shape_is_an_error_as_on_a_gpu() -> None:
    scores = torch.zeros(4, 6, device="cuda")
    with pytest.raises(
        IndexError, match=r"The shape of the mask \[4, 5\] at index 1 does not match .* \[4, 6\] at index 1"
    ):
        scores[torch.ones(4, 5, dtype=torch.bool, device="cuda")] = 1.0
