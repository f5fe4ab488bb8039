"""flex_attention, one higher-order op. Dense convention: its mask and its change of scores cost nothing."""

from __future__ import annotations

from typing import Any

from pytest_flopguard.core.measurement import Cost
from pytest_flopguard.core.tensors import TensorSpec
from pytest_flopguard.formulas.ops import attention
from pytest_flopguard.formulas.registry import formula


@formula("higher_order.flex_attention")
def flex_attention(query: TensorSpec, key: TensorSpec, value: TensorSpec, *_: Any, **__: Any) -> Cost:
    """As attention, [B, H, S_q, d] x [B, H_kv, S_k, d] x [B, H_kv, S_k, d_v]: 2*B*H*S_q*S_k*(d + d_v)."""
    return attention.attention(query, key, value)


@formula("higher_order.flex_attention_backward")
def flex_attention_backward(query: TensorSpec, key: TensorSpec, value: TensorSpec, *_: Any, **__: Any) -> Cost:
    """Twice the forward, and Q K^T once more inside the kernel as kernel_recompute."""
    return attention.attention_backward(query, query, key, value)
