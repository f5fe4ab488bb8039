"""Fused attention: hand calculations, and loops that do and count every multiply-add, forward and backward."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pytest_flopguard.core.measurement import Cost, OpCall
from pytest_flopguard.core.tensors import TensorSpec
from pytest_flopguard.formulas.registry import default_registry

Costs = Callable[..., Cost]
REGISTRY = default_registry()
# Batch 2, 4 query heads, 2 key/value heads, 5 queries, 7 keys, d 8, d_v 6.
Q, K, V, OUT = (2, 4, 5, 8), (2, 2, 7, 8), (2, 2, 7, 6), (2, 4, 5, 6)
LSE = (2, 4, 5)
# The same, positions before heads.
QL, KL, VL, OUTL = (2, 5, 4, 8), (2, 7, 2, 8), (2, 7, 2, 6), (2, 5, 4, 6)
# 2 batches * 4 heads * 5 * 7 pairs: 280. Scores are sums of 8, values of 6 for each pair.
SCORES = 2 * 280 * 8
FORWARD = SCORES + 2 * 280 * 6
SEED = (2,)
EMPTY = (0,)


class Loops(NamedTuple):
    """What the loops found: the output and three gradients, and the multiply-adds of each product."""

    out: Tensor
    grads: tuple[Tensor, Tensor, Tensor]
    done: dict[str, int]


def loop(query: Tensor, key: Tensor, value: Tensor, grad: Tensor) -> Loops:
    """Attend one multiply-add after the other: what the softmax makes of scores is no multiply-add."""
    batch, heads, queries, d = query.shape
    shared, keys, d_v = heads // key.shape[1], key.shape[2], value.shape[3]
    done = dict.fromkeys(("scores", "values", "grad_v", "grad_p", "grad_q", "grad_k"), 0)
    out = torch.zeros(batch, heads, queries, d_v, dtype=query.dtype)
    grads = tuple(map(torch.zeros_like, (query, key, value)))
    for b, h in product(range(batch), range(heads)):
        q, k, v, g = query[b, h], key[b, h // shared], value[b, h // shared], grad[b, h]
        scores = torch.zeros(queries, keys, dtype=q.dtype)
        for i, j, each in product(range(queries), range(keys), range(d)):
            scores[i, j] += q[i, each] * k[j, each]
            done["scores"] += 1
        p = torch.softmax(scores * d**-0.5, dim=-1)
        grad_p = torch.zeros_like(p)
        for i, j, each in product(range(queries), range(keys), range(d_v)):
            out[b, h, i, each] += p[i, j] * v[j, each]
            grads[2][b, h // shared, j, each] += p[i, j] * g[i, each]
            grad_p[i, j] += g[i, each] * v[j, each]
            done = {name: number + (name in ("values", "grad_v", "grad_p")) for name, number in done.items()}
        grad_s = p * (grad_p - (grad_p * p).sum(-1, keepdim=True)) * d**-0.5
        for i, j, each in product(range(queries), range(keys), range(d)):
            grads[0][b, h, i, each] += grad_s[i, j] * k[j, each]
            grads[1][b, h // shared, j, each] += grad_s[i, j] * q[i, each]
            done = {name: number + (name in ("grad_q", "grad_k")) for name, number in done.items()}
    return Loops(out, (grads[0], grads[1], grads[2]), done)


def cost_of(op: str, *arguments: Any) -> Cost:
    specs = tuple(TensorSpec(tuple(each.shape)) if isinstance(each, Tensor) else each for each in arguments)
    return REGISTRY.cost(OpCall(op=op, args=specs))


SIZE = st.integers(1, 3)


@given(batch=SIZE, shared=SIZE, kv_heads=st.integers(1, 2), queries=SIZE, keys=SIZE, d=SIZE, d_v=SIZE)
@settings(max_examples=40, deadline=None)
def test_loops_do_as_many_multiply_adds_as_counted(
    batch: int, shared: int, kv_heads: int, queries: int, keys: int, d: int, d_v: int
) -> None:
    generator = torch.Generator().manual_seed(0)
    shapes = ((kv_heads * shared, queries, d), (kv_heads, keys, d), (kv_heads, keys, d_v))
    tensors = [torch.randn(batch, *each, dtype=torch.double, generator=generator) for each in shapes]
    q, k, v = (each.requires_grad_() for each in tensors)
    out = torch.nn.functional.scaled_dot_product_attention(q, k, v, enable_gqa=True)
    grad = torch.randn(out.shape, dtype=out.dtype, generator=generator)
    wanted = torch.autograd.grad(out, (q, k, v), grad)
    loops = loop(q.detach(), k.detach(), v.detach(), grad)
    torch.testing.assert_close(loops.out, out)
    torch.testing.assert_close(loops.grads, wanted)
    done = loops.done
    forward = 2 * (done["scores"] + done["values"])
    backward = 2 * (done["grad_v"] + done["grad_p"] + done["grad_q"] + done["grad_k"])
    assert cost_of("aten._scaled_dot_product_flash_attention_for_cpu", q, k, v).flops == forward
    assert cost_of("aten.scaled_dot_product_attention", q, k, v).flops == forward
    last = [each.transpose(1, 2) for each in (q, k, v)]
    assert cost_of("aten._flash_attention_forward", *last).flops == forward
    found = cost_of("aten._scaled_dot_product_flash_attention_for_cpu_backward", grad, q, k, v)
    # A flash kernel keeps no scores: it computes them again, which is told apart.
    assert found == Cost(kind="counted", flops=backward, kernel_recompute=2 * done["scores"])
    assert backward == 2 * forward


FORWARDS = {
    "aten._scaled_dot_product_flash_attention_for_cpu": (Q, K, V, 0.0, True),
    "aten._scaled_dot_product_flash_attention": (Q, K, V, 0.0, True, False),
    "aten._scaled_dot_product_efficient_attention": (Q, K, V, None, True, 0.0, False),
    "aten._scaled_dot_product_cudnn_attention": (Q, K, V, None, True, 0.0, True, False),
    "aten._scaled_dot_product_fused_attention_overrideable": (Q, K, V, None, 0.0, True, False),
    "aten._scaled_dot_product_attention_math_for_mps": (Q, K, V, None, 0.0, False, None),
    "aten._triton_scaled_dot_attention": (Q, K, V, 0.0),
    "aten.scaled_dot_product_attention": (Q, K, V, None, 0.0, True),
    "aten._flash_attention_forward": (QL, KL, VL, None, None, 5, 7, 0.0, True, False),
    "aten._flash_attention_forward_no_dropout_inplace": (OUTL, QL, KL, VL, None, None, 5, 7, 0.0, True, False),
    "aten._efficient_attention_forward": (QL, KL, VL, None, None, None, 5, 7, 0.0, 0, True),
    # The named kernels that have heads before positions.
    "aten._cudnn_attention_forward": (Q, K, V, None, None, None, 5, 7, True, 0.0, True, False),
    "aten._cudnn_attention_forward_no_dropout_inplace": (OUT, Q, K, V, EMPTY, None, 5, 7, True),
}
BACKWARDS = {
    "aten._scaled_dot_product_flash_attention_for_cpu_backward": (OUT, Q, K, V, OUT, LSE, 0.0, True),
    "aten._scaled_dot_product_flash_attention_backward": (
        *(OUT, Q, K, V, OUT, LSE, EMPTY, EMPTY, 5, 7, 0.0, True, SEED, SEED),
    ),
    "aten._scaled_dot_product_efficient_attention_backward": (
        *(OUT, Q, K, V, None, OUT, LSE, SEED, SEED, 0.0, [True, True, True, False], True),
    ),
    "aten._scaled_dot_product_cudnn_attention_backward": (
        *(OUT, Q, K, V, OUT, LSE, SEED, SEED, EMPTY, EMPTY, EMPTY, 5, 7, 0.0, True),
    ),
    "aten._scaled_dot_product_fused_attention_overrideable_backward": (
        *(OUT, Q, K, V, EMPTY, [True] * 4, OUT, LSE, EMPTY, EMPTY, 5, 7, 0.0, True, SEED, SEED),
    ),
    "aten._flash_attention_backward": (OUTL, QL, KL, VL, OUTL, LSE, EMPTY, EMPTY, 5, 7, 0.0, True, SEED, SEED),
    "aten._efficient_attention_backward": (
        *(OUTL, QL, KL, VL, None, OUTL, None, None, 5, 7, LSE, 0.0, SEED, SEED, 0, False),
    ),
    "aten._cudnn_attention_backward": (*(OUT, Q, K, V, OUT, LSE, SEED, SEED, EMPTY, EMPTY, EMPTY, 5, 7, 0.0, True),),
}


@pytest.mark.parametrize("op", FORWARDS)
def test_every_kernel_counts_the_same_forward(cost: Costs, op: str) -> None:
    assert cost(op, *FORWARDS[op], scale=0.5) == Cost(kind="counted", flops=FORWARD)


@pytest.mark.parametrize("op", BACKWARDS)
def test_every_kernel_counts_the_same_backward(cost: Costs, op: str) -> None:
    assert cost(op, *BACKWARDS[op], scale=0.5) == Cost(kind="counted", flops=2 * FORWARD, kernel_recompute=SCORES)


def test_the_tables_hold_every_attention_op_of_torch(registry: Any) -> None:
    schemas = (name.partition(".")[0] for name in torch._C._dispatch_get_all_op_names())
    named = {name.replace("::", ".") for name in schemas if name.startswith("aten::") and "attention" in name}
    composite = {"aten._scaled_dot_product_attention_math"}
    whole = {"aten._native_multi_head_attention", "aten._triton_multi_head_attention"}
    # Flex attention is a higher-order op: tests/programs holds it.
    counted = {each.op for each in registry.entries() if each.kind == "counted"}
    known = {op for op in counted if op.startswith("aten.") and "attention" in op}
    assert known - FORWARDS.keys() - BACKWARDS.keys() - whole == set()
    assert named - known - composite == set()


@pytest.mark.parametrize(
    ("query", "key", "value", "expected"),
    [
        # 3 * 4 pairs, sums of 8 and of 6, 2 each.
        ((3, 8), (4, 8), (4, 6), 336),
        # One query for 5 batches of keys: 5 * 336.
        ((3, 8), (5, 4, 8), (5, 4, 6), 1680),
        # Only the values have batches: scores once, values 5 times.
        ((3, 8), (4, 8), (5, 4, 6), 2 * 12 * 8 + 5 * 2 * 12 * 6),
        # Batches 5x1 and 2: 10 * 336.
        ((5, 1, 3, 8), (2, 4, 8), (1, 4, 6), 3360),
        ((0, 3, 8), (0, 4, 8), (0, 4, 6), 0),
        ((2, 3, 0), (2, 4, 0), (2, 4, 6), 2 * 2 * 12 * 6),
    ],
)
def test_whole_attention_broadcasts(cost: Costs, query: Any, key: Any, value: Any, expected: int) -> None:
    assert cost("aten.scaled_dot_product_attention", query, key, value).flops == expected
    out = torch.nn.functional.scaled_dot_product_attention(*(torch.ones(each) for each in (query, key, value)))
    assert out.shape[-2:] == (query[-2], value[-1])


def test_empty_heads_have_values_to_weigh_all_the_same(cost: Costs) -> None:
    op = "aten._scaled_dot_product_flash_attention"
    # No scores; 2*4*5*7 pairs, sums of 6.
    assert cost(op, (2, 4, 5, 0), (2, 4, 7, 0), (2, 4, 7, 6)).flops == 2 * 280 * 6


def test_gpt2s_attention(cost: Costs) -> None:
    # 12 layers' worth is 4 * 1024 * 1024 * 768 * 12; one layer:
    shape = (1, 12, 1024, 64)
    assert cost("aten._scaled_dot_product_flash_attention", shape, shape, shape).flops == 3_221_225_472


@pytest.mark.parametrize("op", ["aten._native_multi_head_attention", "aten._triton_multi_head_attention"])
def test_the_inference_path_of_multi_head_attention_is_its_parts(cost: Costs, op: str) -> None:
    batch, queries, keys, width = 2, 5, 7, 8
    query, key = (batch, queries, width), (batch, keys, width)
    # q and output projections for each query, k and v for each key: 2*2*8*8*(5+5) + 2*2*8*8*(7+7).
    projections = 256 * (2 * queries + 2 * keys)
    # Scores and values over the whole width: 2 * 2*2*5*7*8.
    core = 2 * 2 * batch * queries * keys * width
    found = cost(op, query, key, key, width, 4, (24, 8), (24,), (8, 8), (8,))
    assert found == Cost(kind="counted", flops=projections + core)


def test_the_inference_path_of_an_encoder_layer_is_its_parts(cost: Costs) -> None:
    source, width, ff = (2, 5, 8), 8, 32
    attention = cost("aten._native_multi_head_attention", source, source, source, width).flops
    # Two products with 10 rows: 2*10*8*32 + 2*10*32*8.
    feed_forward = 2 * 10 * width * ff * 2
    norm = ((8,), (8,))
    arguments = (source, width, 4, (24, 8), (24,), (8, 8), (8,), False, False, 1e-5, *norm, *norm)
    found = cost("aten._transformer_encoder_layer_fwd", *arguments, (32, 8), (32,), (8, 32), (8,), None, None)
    assert attention is not None
    assert found == Cost(kind="counted", flops=attention + feed_forward)


def test_a_fused_backward_computes_all_gradients_where_one_is_needed(tally: Callable[..., Any]) -> None:
    query = torch.ones(1, 2, 16, 8, requires_grad=True)
    other = torch.ones(1, 2, 16, 8)
    attend = torch.nn.functional.scaled_dot_product_attention
    found = tally(lambda: attend(query, other, other).sum().backward())
    # 2*2*16*16*(8 + 8), and twice that, though the query's gradient alone takes as much as the forward.
    assert (found.forward, found.backward) == (16_384, 2 * 16_384)
