from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

from pytest_flopguard.backends.module_tree import own_buffers, own_parameters, parts


class Shared(nn.Module):
    """One part under two names, a cycle of names through it, an empty place, and parameters that have no shape yet."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
        self.again = self.first
        self.inner = nn.ModuleDict({"first": self.first[0], "own": nn.Linear(3, 1, bias=False)})
        self.register_module("nothing", None)
        self.lazy = nn.LazyBatchNorm1d()


MODELS = {
    "shared": Shared,
    "one": lambda: nn.Linear(1, 1),
    "gpt2": lambda: GPT2LMHeadModel(GPT2Config(n_layer=2, n_embd=8, n_head=2, vocab_size=16)),
}


@pytest.mark.parametrize("name", MODELS)
def test_parts_are_named_modules(name: str) -> None:
    model = MODELS[name]()
    assert list(parts(model)) == list(model.named_modules())


@pytest.mark.parametrize("name", MODELS)
def test_parts_hold_what_the_whole_has(name: str) -> None:
    model = MODELS[name]()
    uninitialized = nn.parameter.UninitializedTensorMixin
    for own, whole in ((own_parameters, model.parameters()), (own_buffers, model.buffers())):
        found: dict[int, torch.Tensor] = {id(each): each for _, part in parts(model) for each in own(part)}
        assert list(found) == [id(each) for each in whole if not isinstance(each, uninitialized)]
