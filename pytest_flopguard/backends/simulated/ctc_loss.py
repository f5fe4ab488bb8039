"""CTC loss on a GPU: cuDNN's kernel or torch's own, and the memory of the latter.

Sources, under aten/src/ATen/native: LossCTC.cpp (ctc_loss, ctc_loss_impl), cudnn/LossCTC.cpp (_use_cudnn_ctc_loss) and
cuda/LossCTC.cu (ctc_loss_gpu_template, ctc_loss_backward_gpu_template). Lengths are values: all memory follows from the
longest target.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch

from pytest_flopguard.backends.simulated.hidden_memory import Call, Entry, Hidden, size_of
from pytest_flopguard.backends.simulated.packed_sequences import numbers
from pytest_flopguard.backends.simulated.reduction_workspaces import ENTRIES as REDUCTIONS

_aten = torch.ops.aten
_MEAN, _SUM = 1, 2  # at::Reduction
_CUDNN_TARGETS = 256
# A problem of a size over this is solved by several kernels (is_large).
_LARGE = 450


def _by_tensors(
    log_probs: torch.Tensor,
    targets: torch.Tensor,
    input_lengths: torch.Tensor,
    target_lengths: torch.Tensor,
    *rest: Any,
) -> torch.Tensor:
    """Lengths are read first, and what follows knows them as numbers; tensor subclasses go another way, a GPU not."""
    for name, lengths in (("input_lengths", input_lengths), ("target_lengths", target_lengths)):
        if lengths.is_floating_point() or lengths.is_complex() or lengths.dtype == torch.bool:
            raise RuntimeError(f"{name} must be integral")
    return _by_numbers(
        log_probs, targets, numbers(input_lengths.reshape(-1)), numbers(target_lengths.reshape(-1)), *rest
    )


def _by_numbers(
    log_probs: torch.Tensor,
    targets: torch.Tensor,
    input_lengths: Sequence[int],
    target_lengths: Sequence[int],
    blank: int = 0,
    reduction: int = _MEAN,
    zero_infinity: bool = False,
) -> torch.Tensor:
    """ctc_loss_impl, written anew since it fills tensors that have no memory here."""
    batches = log_probs if log_probs.dim() == 3 else log_probs.unsqueeze(1)
    lengths = list(input_lengths), list(target_lengths)
    loss: torch.Tensor
    if _uses_cudnn(batches, targets, *lengths, blank):
        loss = _aten._cudnn_ctc_loss(batches, targets, *lengths, blank, True, zero_infinity)[0]
    else:
        loss = _aten._ctc_loss(batches, targets.to(batches.device, torch.long), *lengths, blank, zero_infinity)[0]
        if zero_infinity:
            zero = torch.zeros((), dtype=loss.dtype, device=loss.device)
            loss = torch.where(loss == torch.inf, zero, loss)
    if reduction == _MEAN:
        shares = torch.tensor(lengths[1], dtype=loss.dtype, device="cpu").to(loss.device).clamp_min(1)
        return (loss / shares).mean()
    if reduction == _SUM:
        return loss.sum()
    return loss if log_probs.dim() == 3 else loss.squeeze(0)


def _uses_cudnn(
    log_probs: torch.Tensor,
    targets: torch.Tensor,
    input_lengths: Sequence[int],
    target_lengths: Sequence[int],
    blank: int,
) -> bool:
    """cuDNN's: int32 targets of under 256, one after another on the CPU, and inputs that are all of full length."""
    return (
        torch.backends.cudnn.enabled
        and blank == 0
        and log_probs.dim() == 3
        and targets.dim() == 1
        and log_probs.dtype == torch.float32
        and targets.dtype == torch.int32
        and targets.device.type == "cpu"
        and targets.is_contiguous()
        and all(length == log_probs.shape[0] for length in input_lengths)
        and all(one < _CUDNN_TARGETS and one <= of for one, of in zip(target_lengths, input_lengths, strict=True))
    )


def _cudnn(
    log_probs: torch.Tensor, targets: torch.Tensor, input_lengths: Sequence[int], *rest: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    return log_probs.new_empty(log_probs.shape[1]), torch.empty_like(log_probs, memory_format=torch.contiguous_format)


def _forward(
    log_probs: torch.Tensor,
    targets: torch.Tensor,
    input_lengths: Sequence[int],
    target_lengths: Sequence[int],
    *rest: Any,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return losses and alphas, for each step and each label of the longest target with blanks around."""
    steps, batch, _ = log_probs.shape
    return log_probs.new_empty(batch), log_probs.new_empty((batch, steps, 2 * max(target_lengths, default=0) + 1))


def _backward(grad: torch.Tensor, log_probs: torch.Tensor, *rest: Any) -> torch.Tensor:
    return torch.empty_like(log_probs, memory_format=torch.contiguous_format)


def _lengths(log_probs: torch.Tensor) -> tuple[int, ...]:
    """Lengths of targets and inputs and the beginnings of targets, as int64 on the GPU."""
    return (8 * log_probs.shape[1],) * 3


def _forward_memory(call: Call) -> Hidden:
    return _lengths(call.args[0])


def _backward_memory(call: Call) -> Hidden:
    """The betas; in a large problem also the sums over blanks, or the gradient before infinite losses are zeroed."""
    log_probs, alphas = call.args[1], call.args[6]
    kept = (*_lengths(log_probs), size_of(alphas))
    steps, batch, labels = log_probs.shape
    if 2 * steps + 24 * batch // 10 + 2 * labels // 10 <= _LARGE:
        return kept
    blanks = alphas.new_empty((batch, steps, alphas.shape[2] // 2 + 1), device="meta")
    summed = blanks.new_empty((batch, steps, 1))
    inside = REDUCTIONS["aten::logsumexp"](Call(args=(blanks, [2], True), kwargs={}, out=summed, gpu=call.gpu))
    assert isinstance(inside, tuple)
    sums = (size_of(blanks), size_of(summed), *inside)
    if not call.argument(8, "zero_infinity", False):
        return (*kept, *sums)
    return (*kept, *max(sums, (batch, log_probs.element_size(), size_of(call.out)), key=sum))


ROUTES: tuple[tuple[Any, Callable[..., Any]], ...] = (
    (_aten.ctc_loss.Tensor, _by_tensors),
    (_aten.ctc_loss.IntList, _by_numbers),
)
SHAPES: tuple[tuple[Any, Callable[..., Any]], ...] = ((_aten._ctc_loss_backward.default, _backward),)
# Fake tensors' own mode refuses these: a shape that follows from what it takes for values, and targets on the CPU.
ANSWERS: tuple[tuple[Any, Callable[..., Any]], ...] = (
    (_aten._ctc_loss.default, _forward),
    (_aten._cudnn_ctc_loss.default, _cudnn),
)
ENTRIES: Mapping[str, Entry] = MappingProxyType(
    {"aten::_ctc_loss": _forward_memory, "aten::_ctc_loss_backward": _backward_memory}
)
