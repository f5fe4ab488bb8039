"""Packed sequences: each one counts as dense attention on itself, by the lengths that are the call's values."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.attention.varlen  # defines torch_attn

from pytest_flopguard.core.measurement import Cost, OpCall
from pytest_flopguard.core.tensors import TensorSpec
from pytest_flopguard.formulas.registry import Registry

# Two sequences: 3 queries on 4 keys, 2 queries on 5 keys. 4 heads of width 8, values of width 6.
Q, K, V, OUT = (TensorSpec(each) for each in ((5, 4, 8), (9, 4, 8), (9, 4, 6), (5, 4, 6)))
# 2 * 4 * (8 + 6) for each pair of a query and a key of its own sequence: 3 * 4 + 2 * 5 pairs.
PAIR = 2 * 4 * (8 + 6)
FORWARD = PAIR * 22
# Causal with the last query at the last key: hidden are 3 + 2 * ... keys to the right: (0+1+2) and (0+1).
HIDDEN = PAIR * (3 + 1)
# Q K^T alone: 2 * 4 * 8 for each pair.
SCORES = 2 * 4 * 8 * 22
# 5 queries, each on at most 5 keys.
MOST = PAIR * 25

FORWARDS = [
    "aten._flash_attention_forward",
    "aten._flash_attention_forward_no_dropout_inplace",
    "aten._efficient_attention_forward",
    "aten._cudnn_attention_forward",
    "torch_attn._varlen_attn",
    "torch_attn._varlen_attn_out",
]
BACKWARDS = [
    "aten._flash_attention_backward",
    "aten._efficient_attention_backward",
    "aten._cudnn_attention_backward",
    "torch_attn._varlen_attn_backward",
]
OTHERS = TensorSpec((1,))


def lengths(*values: int, known: bool = True) -> TensorSpec:
    return TensorSpec((len(values),), "int32", values=values if known else None)


def call(op: str, *, known: bool = True, **more: Any) -> OpCall:
    """Build a call on the two sequences from the op's schema, whose argument names differ from kernel to kernel."""
    space, name = op.split(".")
    packet = getattr(getattr(torch.ops, space), name)
    schema = getattr(packet, packet.overloads()[0])._schema
    q, k = lengths(0, 3, 5, known=known), lengths(0, 4, 9, known=known)
    given: dict[str, Any] = {"query": Q, "key": K, "value": V, "out": OUT, "grad_out": OUT, "grad_out_": OUT}
    given |= dict.fromkeys(("cum_seq_q", "cu_seqlens_q", "cu_seq_q"), q)
    given |= dict.fromkeys(("cum_seq_k", "cu_seqlens_k", "cu_seq_k"), k)
    given |= dict.fromkeys(("max_q", "max_seqlen_q"), 3) | dict.fromkeys(("max_k", "max_seqlen_k"), 5)
    given |= more
    wanted = [each for each in schema.arguments if not each.kwarg_only]
    names = tuple(each.name for each in wanted)
    neutral = {"bool": False, "float": 0.0, "int": 0, "Tensor": OTHERS}
    args = tuple(given.get(each.name, neutral.get(str(each.type))) for each in wanted)
    kwargs = {each.name: given[each.name] for each in schema.arguments if each.kwarg_only and each.name in given}
    return OpCall(op=op, args=args, kwargs=kwargs, names=names)


@pytest.mark.parametrize("op", FORWARDS)
def test_each_sequence_counts_by_itself(registry: Registry, op: str) -> None:
    assert registry.cost(call(op)) == Cost(kind="counted", flops=FORWARD)


@pytest.mark.parametrize("op", BACKWARDS)
def test_backward_is_twice_the_forward(registry: Registry, op: str) -> None:
    assert registry.cost(call(op)) == Cost(kind="counted", flops=2 * FORWARD, kernel_recompute=SCORES)


@pytest.mark.parametrize("op", ["aten._flash_attention_forward", "torch_attn._varlen_attn"])
def test_what_a_causal_flag_hides_follows_each_length(registry: Registry, op: str) -> None:
    assert registry.cost(call(op, is_causal=True)) == Cost(kind="counted", flops=FORWARD, masked_flops=HIDDEN)


def test_a_window_hides_too(registry: Registry) -> None:
    # One key to the left, none to the right: at most 2 keys a query; with 3 on 4 and 2 on 5 keys every query has 2.
    found = registry.cost(call("torch_attn._varlen_attn", window_size=(1, 0)))
    assert (found.flops or 0) - found.masked_flops == PAIR * 5 * 2


def test_used_keys_replace_the_lengths(registry: Registry) -> None:
    # A cache of which 2 and 1 keys are used: 3 * 2 + 2 * 1 pairs.
    found = registry.cost(call("torch_attn._varlen_attn", cu_seq_k=None, seqused_k=lengths(2, 1)))
    assert found == Cost(kind="counted", flops=PAIR * 8)


def test_used_keys_of_a_batch(registry: Registry) -> None:
    shapes = ((2, 3, 4, 8), (2, 7, 4, 8), (2, 7, 4, 6))
    q, k, v = (TensorSpec(each) for each in shapes)
    plain = {"query": q, "key": k, "value": v, "cum_seq_q": None, "cum_seq_k": None}
    flash = "aten._flash_attention_forward"
    # 3 queries on 2 and on 5 of 7 keys.
    assert registry.cost(call(flash, **plain, seqused_k=lengths(2, 5))).flops == PAIR * 3 * (2 + 5)
    bound = registry.cost(call(flash, **plain, seqused_k=lengths(2, 5, known=False)))
    assert (bound.flops, bool(bound.at_most)) == (PAIR * 2 * 3 * 7, True)


@pytest.mark.parametrize("op", FORWARDS + BACKWARDS)
def test_without_values_it_is_an_upper_bound(registry: Registry, op: str) -> None:
    found = registry.cost(call(op, known=False))
    assert found.flops == (2 * MOST if op in BACKWARDS else MOST)
    assert "values, which do not exist here" in found.at_most


@pytest.mark.parametrize("op", FORWARDS + BACKWARDS)
def test_the_lengths_are_read(registry: Registry, op: str) -> None:
    names = {each for each in call(op).by_name if each.startswith(("cum_seq", "cu_seq"))}
    assert len(names) == 2
    assert names <= registry.reads(op)
