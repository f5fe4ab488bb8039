"""The math way of attention, written anew for GPUs, against torch's own on real tensors with values."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from pytest_flopguard.backends.simulated import attention_kernels
from pytest_flopguard.backends.simulated.attention_choice import AttentionCall


def values(*shape: int, dtype: torch.dtype) -> Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(*shape, generator=generator).to(dtype).requires_grad_()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize(
    "case",
    [
        {},
        {"scale": 0.3},
        {"scale": -0.3},
        {"is_causal": True},
        {"mask": "bool"},
        {"mask": "number"},
        {"key_heads": 2},
    ],
    ids=str,
)
def test_it_computes_what_torch_computes(case: dict[str, Any], dtype: torch.dtype) -> None:
    key_heads, kind = case.get("key_heads", 4), case.get("mask")
    scale, is_causal = case.get("scale"), case.get("is_causal", False)

    def inputs() -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        mask = values(6, 8, dtype=dtype).detach()
        chosen = {None: None, "bool": mask > -1, "number": mask}[kind]
        heads = (values(2, key_heads, 8, width, dtype=dtype) for width in (16, 12))
        return values(2, 4, 6, 16, dtype=dtype), *heads, chosen

    query, key, value, mask = inputs()
    call = AttentionCall(
        query=query, key=key, value=value, mask=mask, dropout=0.0, is_causal=is_causal, enable_gqa=key_heads != 4
    )
    ours = attention_kernels.run(call, SDPBackend.MATH, scale)
    again = inputs()
    with sdpa_kernel(SDPBackend.MATH):
        theirs = F.scaled_dot_product_attention(*again, is_causal=is_causal, scale=scale, enable_gqa=key_heads != 4)
    assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
    torch.testing.assert_close(ours, theirs)
    ours.sum().backward()
    theirs.sum().backward()
    for mine, other in zip((query, key, value), again, strict=False):
        torch.testing.assert_close(mine.grad, other.grad)
