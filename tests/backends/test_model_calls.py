"""Which models were called, and with what: plain facts, noted without touching anything."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from cache_names import with_cache
from layer_checkpointing import checkpoint_layers
from torch import nn
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM, StaticCache

from pytest_flopguard.backends.dispatch import DispatchFlops
from pytest_flopguard.core.model_call import ModelCall
from pytest_flopguard.core.tensors import TensorSpec
from pytest_flopguard.formulas.registry import default_registry

TOKENS = torch.ones(2, 6, dtype=torch.long)


@pytest.fixture
def llama() -> LlamaForCausalLM:
    config = LlamaConfig(
        hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        vocab_size=10,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


@contextmanager
def engine(*, noting: bool = True) -> Iterator[tuple[DispatchFlops, Callable[[], tuple[ModelCall, ...]]]]:
    with DispatchFlops(default_registry()) as flops:
        if noting:
            flops.note_models()
        mark = flops.begin()
        yield flops, lambda: flops.model_calls(mark)


def noted(run: Callable[[], object]) -> tuple[ModelCall, ...]:
    with engine() as (_, calls):
        run()
        return calls()


def test_inputs_by_name(llama: LlamaForCausalLM) -> None:
    positional, keyword = noted(
        lambda: (llama(TOKENS), llama(input_ids=TOKENS, position_ids=TOKENS, logits_to_keep=2, use_cache=False))
    )
    assert list(positional.inputs) == ["input_ids"]
    assert set(keyword.inputs) == {"input_ids", "position_ids", "logits_to_keep", "use_cache"}
    tokens = [positional.inputs["input_ids"], keyword.inputs["input_ids"], keyword.inputs["position_ids"]]
    assert {isinstance(each, TensorSpec) and (each.shape, each.dtype) for each in tokens} == {((2, 6), "int64")}
    assert (keyword.inputs["logits_to_keep"], keyword.inputs["use_cache"]) == (2, False)
    assert positional.model == "LlamaForCausalLM"
    assert positional.config["model_type"] == "llama"
    assert positional.children == ("model", "lm_head")
    assert positional.kernel == "sdpa"


def test_nothing_is_noted_until_somebody_asks(llama: LlamaForCausalLM) -> None:
    with engine(noting=False) as (flops, calls):
        llama(TOKENS)
        assert calls() == ()
        flops.note_models()
        mark = flops.begin()
        llama(TOKENS)
        assert len(flops.model_calls(mark)) == 1


def test_only_the_outermost_model_of_a_region(llama: LlamaForCausalLM) -> None:
    wrapped = nn.Sequential()
    wrapped.add_module("inner", llama)
    with engine() as (flops, calls):
        llama(TOKENS)
        mark = flops.begin()
        wrapped(TOKENS)
        nn.Linear(2, 2)(torch.zeros(1, 2))
        assert [each.path for each in flops.model_calls(mark)] == ["Sequential.inner"]
        assert [each.path for each in calls()] == ["LlamaForCausalLM", "Sequential.inner"]


def test_a_model_that_raised_hides_no_later_one(llama: LlamaForCausalLM) -> None:
    def run() -> None:
        with pytest.raises(IndexError):
            llama(torch.full((1, 2), 99))
        llama(TOKENS)

    assert [each.inputs["input_ids"].shape for each in noted(run)] == [(1, 2), (2, 6)]


def test_gradients(llama: LlamaForCausalLM) -> None:
    embeds = torch.zeros(1, 3, 16, requires_grad=True)

    def run() -> None:
        llama(inputs_embeds=embeds)
        with torch.no_grad():
            llama(TOKENS)
        llama.lm_head.requires_grad_(False)
        llama(TOKENS)

    first, silent, frozen = noted(run)
    assert (first.grad, first.wants_gradient, first.frozen) == (True, {"inputs_embeds"}, ())
    assert (silent.grad, silent.wants_gradient) == (False, frozenset())
    assert frozen.frozen == ("lm_head.weight",)


def test_caches(llama: LlamaForCausalLM) -> None:
    grown = DynamicCache(config=llama.config)
    fixed = StaticCache(config=llama.config, max_cache_len=9)

    def run() -> None:
        for cache in (grown, fixed):
            llama(TOKENS, **with_cache(llama, cache))
            llama(TOKENS[:, :1], **with_cache(llama, cache))

    assert [(each.past, each.keys) for each in noted(run)] == [(0, (6, 6)), (6, (7, 7)), (0, (9, 9)), (6, (9, 9))]


def test_padding(llama: LlamaForCausalLM) -> None:
    open_mask, padded = torch.ones(2, 6), torch.ones(2, 6)
    padded[0, 0] = 0
    masks: list[Any] = [None, open_mask, padded, torch.zeros(1, 1, 6, 6)]
    assert [
        each.unpadded
        for mask in masks
        for each in noted(lambda mask=mask: llama(TOKENS, attention_mask=mask))  # type: ignore[misc]
    ] == [True, True, False, False]


@pytest.mark.parametrize(("reentrant", "found"), [(True, "whole"), (False, "needed")])
def test_checkpointing(llama: LlamaForCausalLM, reentrant: bool, found: str) -> None:
    checkpoint_layers(llama, {"use_reentrant": reentrant}, every_n_layers=2)

    def run() -> None:
        llama.eval()(TOKENS)
        llama.train()(TOKENS, use_cache=False).logits.sum().backward()

    evaluated, trained = noted(run)
    assert (evaluated.checkpointing, evaluated.training) == ("none", False)
    assert (trained.checkpointing, trained.checkpointed, trained.training) == (found, (True, False), True)


def test_noting_is_no_work_and_touches_nothing(llama: LlamaForCausalLM) -> None:
    cache = StaticCache(config=llama.config, max_cache_len=9)
    mask = torch.ones(2, 6)
    llama(TOKENS, attention_mask=mask, **with_cache(llama, cache))  # which makes the cache's tensors
    tallies = []
    for noting in (False, True):
        with engine(noting=noting) as (flops, _):
            mark = flops.begin()
            cache.reset()
            llama(TOKENS, attention_mask=mask, **with_cache(llama, cache))
            tallies.append(flops.end(mark))
    assert tallies[0] == tallies[1]
    assert not llama._forward_hooks
    assert not llama._forward_pre_hooks


def test_a_config_that_is_none_of_transformers() -> None:
    class Own(nn.Module):
        def __init__(self, config: object) -> None:
            super().__init__()
            self.config = config

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x

    for config in ({"model_type": "llama"}, 3, None):
        assert noted(lambda config=config: Own(config)(torch.zeros(1))) == ()  # type: ignore[misc]
