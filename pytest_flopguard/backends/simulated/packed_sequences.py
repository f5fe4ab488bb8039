"""Packing and padding of sequences of several lengths, which torch does in C++ by the lengths' values.

Source: aten/src/ATen/native/PackedSequence.cpp. Lengths and batch sizes are small CPU tensors; what lies on the GPU is
cut and joined by ops that anybody sees.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch

from pytest_flopguard.backends.torch_api.dispatch import disable_current_modes
from pytest_flopguard.backends.torch_api.fake import FakeTensor


def numbers(tensor: torch.Tensor) -> list[int]:
    """Return the values of a small CPU tensor; a real one is read as such, a fake one by whoever knows its values."""
    with nullcontext() if isinstance(tensor, FakeTensor) else disable_current_modes():
        values: list[int] = tensor.tolist()
    return values


class _Pack(torch.autograd.Function):
    """Steps of all sequences that are that long, one after another; the way back copies them where they came from."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, lengths: list[int]) -> torch.Tensor:
        ctx.shape, ctx.batches = x.shape, _batches(lengths)
        steps = []
        before = 0
        for number, length in enumerate(reversed(lengths)):
            if length > before:
                step = x[before:length, : len(lengths) - number].contiguous()
                steps.append(step.view(-1, *x.shape[2:]))
                before = length
        return torch.cat(steps)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[torch.Tensor, None]:
        grad = grads[0].new_zeros(ctx.shape)
        offset = 0
        for step, batch in enumerate(ctx.batches):
            grad[step, :batch].copy_(grads[0][offset : offset + batch])
            offset += batch
        return grad, None


def _batches(lengths: list[int]) -> list[int]:
    """Return how many sequences reach each step: 3, 2, 2 for lengths of 3, 3 and 1."""
    return [sum(length > step for length in lengths) for step in range(max(lengths))]


def pack(x: torch.Tensor, lengths: torch.Tensor, batch_first: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """``_pack_padded_sequence``: all steps in a row, and how many sequences reach each step."""
    found = numbers(lengths)
    by_step = x.transpose(0, 1) if batch_first else x
    apply: Any = _Pack.apply  # annotated from torch 2.15 on
    packed: torch.Tensor = apply(by_step, found)
    return packed, torch.tensor(_batches(found))


def pad(
    data: torch.Tensor, batch_sizes: torch.Tensor, batch_first: bool, padding: complex, total_length: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """``_pad_packed_sequence``: sequences side by side, and their lengths."""
    batches = numbers(batch_sizes)
    steps = total_length if total_length > 0 else len(batches)
    out = torch.full((steps, batches[0], *data.shape[1:]), padding, dtype=data.dtype, device=data.device)
    offset = before = 0
    for step, batch in enumerate([*batches[1:], 0], start=1):
        reached = batches[step - 1]
        if batch != reached:
            size = reached * (step - before)
            part = data[offset : offset + size].view(step - before, reached, *data.shape[1:])
            out[before:step, :reached].copy_(part)
            offset, before = offset + size, step
    lengths = [sum(batch > sequence for batch in batches) for sequence in range(batches[0])]
    return out.transpose(0, 1) if batch_first else out, torch.tensor(lengths)
