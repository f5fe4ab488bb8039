"""Models that copy their parts, as torch's transformer does, are built on the CPU and moved like any other."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_copied_parameter_is_a_parameter_of_its_own(machine, device):
    with machine.running():
        layer = nn.Linear(4, 8, device=device)
        layer.weight.grad = torch.ones_like(layer.weight)
        layer.bias.requires_grad_(False)
        copied = copy.deepcopy(layer)
        assert isinstance(copied.weight, nn.Parameter)
        assert copied.weight.requires_grad
        assert not copied.bias.requires_grad
        assert copied.weight.device.type == device
        assert copied.weight.grad is not None
        assert copied.weight.grad is not layer.weight.grad
        assert copied.weight.untyped_storage()._cdata != layer.weight.untyped_storage()._cdata


def test_what_is_shared_stays_shared(machine):
    with machine.running():
        both = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)])
        both[1].weight = both[0].weight
        copied = copy.deepcopy(both)
        assert copied[0].weight is copied[1].weight


def test_a_result_cannot_be_copied(machine):
    with machine.running():
        x = torch.ones(2, device="cuda", requires_grad=True)
        with pytest.raises(RuntimeError, match="graph leaves"):
            copy.deepcopy(x * 2)


def test_torchs_transformer_moves_to_the_device_and_trains(machine):
    with machine.running():
        model = nn.Transformer(16, 2, 1, 1, 32, batch_first=True).to("cuda")
        # 16 wide: attention 3*16*16 + 3*16 + 16*16 + 16 = 1088, feed-forward 2*16*32 + 48 = 1072, a norm 32.
        # Encoder: attention, feed-forward, 2 norms; decoder: 2 attentions, feed-forward, 3 norms; a norm after each.
        assert sum(each.numel() for each in model.parameters()) == 3 * 1088 + 2 * 1072 + 7 * 32
        model(torch.ones(2, 3, 16, device="cuda"), torch.ones(2, 3, 16, device="cuda")).sum().backward()
        assert all(each.grad is not None for each in model.parameters())
