"""Ops of libraries that extend torch, by the schemas that they define."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pytest_flopguard.core.measurement import Cost, OpCall
from pytest_flopguard.core.tensors import TensorSpec
from pytest_flopguard.formulas.registry import Registry

Flops = Callable[..., int]


@pytest.mark.parametrize("op", ["bitsandbytes.int8_linear_matmul", "bitsandbytes.int8_scaled_mm"])
def test_an_8_bit_layer_is_a_product(flops: Flops, op: str) -> None:
    # [2, 3, 4] @ [5, 4].T: 2 * 6 * 4 * 5
    assert flops(op, (2, 3, 4), (5, 4), (6,), (5,)) == 240


def test_outlier_columns_are_multiplied_once_more(flops: Flops) -> None:
    # 6 rows, 4 columns and 2 outliers among them: 2 * 6 * (4 + 2) * 5
    assert flops("bitsandbytes.int8_mixed_scaled_mm", (6, 4), (6, 4), (5, 4), (6,), (5,), (2,)) == 360
    assert flops("bitsandbytes.int8_mixed_scaled_mm", (6, 4), (6, 4), (5, 4), (6,), (5,), None) == 240


@pytest.mark.parametrize("op", ["bitsandbytes.gemm_4bit", "bitsandbytes.gemv_4bit"])
def test_a_4_bit_layer_has_its_shape_beside_it(flops: Flops, op: str) -> None:
    # [3, 64] @ [32, 64].T: 2 * 3 * 64 * 32; the weight is packed two numbers a byte.
    assert flops(op, (3, 64), (1024, 1), [32, 64], (16,)) == 12_288


def test_groups_of_rows(registry: Registry) -> None:
    ptr = TensorSpec((4,), "int64", values=(0, 2, 2, 5))
    call = OpCall(op="pyg.segment_matmul", args=(TensorSpec((6, 3)), ptr, TensorSpec((3, 3, 7))))
    # 5 of 6 rows are in a group: 2 * 5 * 3 * 7
    assert registry.cost(call) == Cost(kind="counted", flops=210)
    # 2*2*3*5 + 2*1*4*4
    lists = ((TensorSpec((2, 3)), TensorSpec((1, 4))), (TensorSpec((3, 5)), TensorSpec((4, 4))))
    assert registry.cost(OpCall(op="pyg.grouped_matmul", args=lists)).flops == 92


@pytest.mark.parametrize("space", ["flash_attn", "flashattn"])
def test_the_flash_attention_library(registry: Registry, space: str) -> None:
    names = ("q", "k", "v", "dropout_p", "softmax_scale", "causal", "window_size_left", "window_size_right")
    q, k, v = TensorSpec((2, 3, 4, 8)), TensorSpec((2, 5, 2, 8)), TensorSpec((2, 5, 2, 8))
    call = OpCall(op=f"{space}._flash_attn_forward", args=(q, k, v, 0.0, 1.0, True, -1, -1), names=names)
    # 2 * batch 2 * 4 heads * 3 * 5 pairs * (8 + 8); causal hides 2 + 1 of 15 pairs, the last query at the last key.
    assert registry.cost(call) == Cost(kind="counted", flops=3840, masked_flops=3840 // 15 * 3)
    grads = (q, q, k, v, q, TensorSpec((2, 4, 3)), q, k, v, 0.0, 1.0, False, -1, -1)
    backward = registry.cost(OpCall(op=f"{space}._flash_attn_backward", args=grads))
    assert backward == Cost(kind="counted", flops=7680, kernel_recompute=1920)


@pytest.mark.parametrize("space", ["flash_attn", "flashattn"])
def test_the_flash_attention_library_on_packed_sequences(registry: Registry, space: str) -> None:
    q, k = TensorSpec((5, 4, 8)), TensorSpec((9, 4, 8))
    of_q, of_k = TensorSpec((3,), "int32", values=(0, 3, 5)), TensorSpec((3,), "int32", values=(0, 4, 9))
    forward = OpCall(op=f"{space}._flash_attn_varlen_forward", args=(q, k, k, of_q, of_k, 3, 5, 0.0, 1.0, False))
    # 2 * 4 heads * (8 + 8) for each of 3 * 4 + 2 * 5 pairs
    assert registry.cost(forward) == Cost(kind="counted", flops=2816)
    grads = (q, q, k, k, q, TensorSpec((4, 5)), q, k, k, of_q, of_k, 3, 5, 0.0, 1.0, False)
    backward = registry.cost(OpCall(op=f"{space}._flash_attn_varlen_backward", args=grads))
    assert backward == Cost(kind="counted", flops=5632, kernel_recompute=1408)
