"""Ops of which a CUDA build has a kernel, and a build for CPUs only a way to put them together from others.

That there is a kernel is enough for torch to use their own derivatives; fake tensors need shapes besides. Kernels are
registered to be known, not to be called: no tensor of a simulated device has memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch

from pytest_flopguard.backends.simulated import ctc_loss, grouped_products, recurrent_kernels
from pytest_flopguard.backends.torch_api.dispatch import COMPOSITE, current_mode, decomposed, has_kernel
from pytest_flopguard.backends.torch_api.fake import FakeTensorMode, fake_impls
from pytest_flopguard.core.errors import FlopguardError, message

_aten = torch.ops.aten


def _fused_rms_norm(
    x: torch.Tensor, normalized_shape: Sequence[int], weight: torch.Tensor | None, eps: float | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """_fused_rms_norm_cuda: the result, and a float32 factor for every row (float64 for float64)."""
    kept = x.dim() - len(normalized_shape)
    statistics = x.dtype if x.dtype == torch.float64 else torch.float32
    factor = x.new_empty((*x.shape[:kept], *[1] * len(normalized_shape)), dtype=statistics)
    return torch.empty_like(x, memory_format=torch.contiguous_format), factor


def _fused_rms_norm_backward(
    grad: torch.Tensor,
    x: torch.Tensor,
    normalized_shape: Sequence[int],
    factor: torch.Tensor,
    weight: torch.Tensor | None,
    wanted: Sequence[bool],
) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """_fused_rms_norm_backward_cuda."""
    plain = torch.contiguous_format
    return (
        torch.empty_like(x, memory_format=plain) if wanted[0] else None,
        torch.empty_like(weight, memory_format=plain) if wanted[1] and weight is not None else None,
    )


class NotSimulated(FlopguardError):
    """An op that no simulated device can run: the text names it and says why."""


def not_simulated(op: str, reason: str) -> NotSimulated:
    """Build the error of an op that cannot be simulated."""
    return NotSimulated(message("not-simulated", reason=f"{op}: {reason}"))


def another_gpu(device: torch.device) -> NotSimulated:
    """Build the error of a device that is not there."""
    return not_simulated(str(device), "one GPU is simulated, cuda:0")


def _like_first(grad: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(grad)


def _like_source(source: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
    return torch.empty_like(source)


def _in_place(*args: Any, **kwargs: Any) -> None:
    """Return nothing, and take nothing."""


# Ops that are put together elsewhere: fake tensors ask them to be taken apart, and are given the shapes instead.
_WHOLE: tuple[tuple[Any, Callable[..., Any]], ...] = (
    (_aten._fused_rms_norm.default, _fused_rms_norm),
    (_aten.silu_backward.default, _like_first),
    (_aten.mish_backward.default, _like_first),
)
_SHAPES: tuple[tuple[Any, Callable[..., Any]], ...] = (
    (_aten._fused_rms_norm_backward.default, _fused_rms_norm_backward),
    (_aten._cudnn_rnn_backward.default, recurrent_kernels.backward),
    (_aten._thnn_fused_gru_cell.default, recurrent_kernels.gru_cell),
    (_aten._thnn_fused_gru_cell_backward.default, recurrent_kernels.gru_cell_backward),
    # Two that torch knows the shapes of since 2.13.
    (_aten._transformer_encoder_layer_fwd.default, _like_source),
    (_aten._standard_gamma.default, _like_source),
    *ctc_loss.SHAPES,
    # One kernel over lists of tensors that writes into them (FusedSgdKernel.cu, FusedAdagradKernel.cu).
    *(
        (getattr(packet, overload), _in_place)
        for packet in (_aten._fused_sgd_, _aten._fused_adagrad_)
        for overload in packet.overloads()
    ),
)


@contextmanager
def known(library: torch.library.Library) -> Iterator[None]:
    """Make the kernels known to torch through a library, for as long as that and this block last."""
    for op, _ in _WHOLE:
        if not has_kernel(op.name(), "CUDA"):
            library.impl(op, _never, "CUDA")
    for op, shapes in _SHAPES:
        if not has_kernel(op.name(), "Meta"):
            library.impl(op, shapes, "Meta")
    answered = {op: _answer(shapes) for op, shapes in (*ctc_loss.ANSWERS, *grouped_products.ANSWERS)}
    kept = [(op, shapes) for op, shapes in _WHOLE if COMPOSITE not in op.py_kernels]
    for op, shapes in kept:
        op.py_kernels[COMPOSITE] = _kept_whole(op, shapes)
    try:
        with patch.dict(fake_impls.op_implementations_dict, answered):
            yield
    finally:
        for op, _ in kept:
            del op.py_kernels[COMPOSITE]


def _answer(shapes: Callable[..., Any]) -> Callable[..., Any]:
    def answer(mode: FakeTensorMode, func: Any, *args: Any, **kwargs: Any) -> Any:
        return shapes(*args, **kwargs)

    return answer


def _kept_whole(op: Any, shapes: Callable[..., Any]) -> Callable[..., Any]:
    """Decline to take the op apart on a GPU, and tell fake tensors what it returns; others' ways stay as they are."""

    def decompose(*args: Any, **kwargs: Any) -> Any:
        if args[0].device.type != "cuda":
            return decomposed(op, *args, **kwargs)
        return shapes(*args, **kwargs) if isinstance(current_mode(), FakeTensorMode) else NotImplemented

    return decompose


def _never(*args: Any, **kwargs: Any) -> Any:
    raise AssertionError("a kernel for real CUDA tensors was called on a simulated device")
