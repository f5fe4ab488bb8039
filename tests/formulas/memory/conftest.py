"""What the memory tests measure with: storages that autograd keeps, and layers to keep them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks


def measure(run: Callable[[], object], outside: Iterable[Tensor] = ()) -> int:
    """Bytes of the unique storages that a forward saves for backward, those of some tensors left out."""
    excluded = {each.untyped_storage().data_ptr() for each in outside}
    kept: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        # Held on to, so that no storage is freed and its address given to another.
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        run()
    return sum(each.untyped_storage().nbytes() for pointer, each in kept.items() if pointer not in excluded)


class MegatronLayer(nn.Module):
    """A pre-norm GPT layer with dropout after softmax, attention and MLP."""

    def __init__(
        self,
        *,
        width: int,
        heads: int,
        dtype: torch.dtype,
        dropout: str = "none",
        flash: bool = False,
        head_dim: int | None = None,
        kv_heads: int | None = None,
        ff: int | None = None,
    ) -> None:
        super().__init__()
        self.heads, self.groups = heads, kv_heads or heads
        self.head_dim = head_dim or width // heads
        self.dropout, self.flash = dropout, flash
        inner, kv = self.heads * self.head_dim, self.groups * self.head_dim
        self.norm_1, self.norm_2 = nn.LayerNorm(width, dtype=dtype), nn.LayerNorm(width, dtype=dtype)
        self.q, self.k, self.v = (nn.Linear(width, size, dtype=dtype) for size in (inner, kv, kv))
        self.out = nn.Linear(inner, width, dtype=dtype)
        self.up = nn.Linear(width, ff or 4 * width, dtype=dtype)
        self.down = nn.Linear(ff or 4 * width, width, dtype=dtype)

    def drop(self, x: Tensor) -> Tensor:
        if self.dropout == "bool-mask":
            return torch.native_dropout(x, 0.1, True)[0]
        return F.dropout(x, 0.1) if self.dropout == "own-dtype-mask" else x

    def forward(self, x: Tensor) -> Tensor:
        batch, sequence, _ = x.shape
        normed = self.norm_1(x)
        q, k, v = (
            each(normed).view(batch, sequence, -1, self.head_dim).transpose(1, 2) for each in (self.q, self.k, self.v)
        )
        if self.flash:
            core = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=self.groups != self.heads)
        else:
            k, v = (each.repeat_interleave(self.heads // self.groups, 1) for each in (k, v))
            scores = (q @ k.transpose(-1, -2)) * self.head_dim**-0.5
            core = self.drop(scores.softmax(-1)) @ v
        x = x + self.drop(self.out(core.transpose(1, 2).reshape(batch, sequence, -1)))
        return x + self.drop(self.down(F.gelu(self.up(self.norm_2(x)))))


class LlamaLayer(nn.Module):
    """A Llama layer with torch's own RMSNorm; rotation of queries and keys keeps only constants."""

    def __init__(self, *, width: int, heads: int, kv_heads: int, head_dim: int, ff: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.head_dim = head_dim
        inner, kv = heads * head_dim, kv_heads * head_dim
        self.norm_1, self.norm_2 = nn.RMSNorm(width, dtype=dtype), nn.RMSNorm(width, dtype=dtype)
        self.q, self.k, self.v = (nn.Linear(width, size, bias=False, dtype=dtype) for size in (inner, kv, kv))
        self.out = nn.Linear(inner, width, bias=False, dtype=dtype)
        self.gate, self.up = (nn.Linear(width, ff, bias=False, dtype=dtype) for _ in range(2))
        self.down = nn.Linear(ff, width, bias=False, dtype=dtype)

    def forward(self, x: Tensor) -> Tensor:
        batch, sequence, _ = x.shape
        normed = self.norm_1(x)
        q, k, v = (
            each(normed).view(batch, sequence, -1, self.head_dim).transpose(1, 2) for each in (self.q, self.k, self.v)
        )
        core = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        x = x + self.out(core.transpose(1, 2).reshape(batch, sequence, -1))
        normed = self.norm_2(x)
        return x + self.down(F.silu(self.gate(normed)) * self.up(normed))


@pytest.fixture
def saved_bytes() -> Callable[..., int]:
    return measure


@pytest.fixture
def megatron_layer() -> type[MegatronLayer]:
    return MegatronLayer


@pytest.fixture
def own_llama_layer() -> type[LlamaLayer]:
    return LlamaLayer
