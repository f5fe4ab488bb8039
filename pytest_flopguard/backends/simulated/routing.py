"""What a given GPU would run: composite ops whose way depends on the device are led there on fake CUDA tensors.

torch decides in C++, by what it was built with and by the GPU that it finds. A build for CPUs, or a machine without a
GPU, decides otherwise for the same call. ``routed`` puts its own choice before that, for CUDA tensors alone; real CPU
tensors never come here.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch.nn.attention import SDPBackend

from pytest_flopguard.backends.simulated import (
    attention_kernels,
    convolution_choice,
    ctc_loss,
    cuda_kernels,
    foreach_support,
    recurrent_kernels,
)
from pytest_flopguard.backends.simulated.attention_choice import AttentionCall, can_use, chosen
from pytest_flopguard.backends.simulated.batch_norm_choice import batch_norm_impl_index
from pytest_flopguard.backends.simulated.gpus import Gpu
from pytest_flopguard.backends.torch_api.dispatch import COMPOSITE, decomposed, decomposes, destroy
from pytest_flopguard.backends.torch_api.fake import FakeTensorMode
from pytest_flopguard.backends.torch_api.replaced import KERNEL_QUESTIONS

# Frames of this module lie between those of the user: pytest leaves them out of tracebacks.
__tracebackhide__ = True

_aten = torch.ops.aten

_fake_results: dict[Any, Any] = {}

# Blocks may nest; the innermost one's GPU counts.
_gpus: list[Gpu] = []


@contextmanager
def routed(gpu: Gpu) -> Iterator[None]:
    """Within the block fake CUDA tensors take the ways that they would take on this GPU; it nests."""
    _gpus.append(gpu)
    try:
        with ExitStack() as stack:
            if len(_gpus) == 1:
                stack.enter_context(_registered())
                stack.enter_context(foreach_support.fake_tensors_supported())
                stack.enter_context(convolution_choice.cudnn_layouts())
                for place, backend in KERNEL_QUESTIONS:
                    stack.enter_context(patch.object(*place, _can_use(backend)))
                # What fake ops returned elsewhere, for the ways of another build, does not count here, nor the reverse.
                stack.enter_context(patch.object(FakeTensorMode, "cache", _fake_results))
                stack.enter_context(patch.object(torch.backends.cudnn, "is_acceptable", lambda tensor: False))
                # Memory of the host is not looked at, and fake tensors cannot be pinned.
                stack.enter_context(patch.object(torch.Tensor, "pin_memory", lambda tensor, device=None: tensor))
            yield
    finally:
        _gpus.pop()


@contextmanager
def _registered() -> Iterator[None]:
    library = torch.library.Library("aten", "IMPL")
    decomposed = [(op, route) for op, route in _ROUTES if decomposes(op) and COMPOSITE not in op.py_kernels]
    with ExitStack() as stack:
        stack.callback(destroy, library)
        with warnings.catch_warnings():
            # That a kernel of torch is overridden is what is wanted.
            warnings.simplefilter("ignore")
            for op, route in _ROUTES:
                library.impl(op, route, "AutogradCUDA")
            stack.enter_context(cuda_kernels.known(library))
        for op, route in decomposed:
            # In inference mode composite ops come undecomposed, and are then asked to decompose themselves.
            op.py_kernels[COMPOSITE] = _or_itself(op, route)
            stack.callback(op.py_kernels.pop, COMPOSITE)
        yield


def _or_itself(op: Any, route: Callable[..., Any]) -> Callable[..., Any]:
    """Take the route for CUDA tensors, and torch's own way for all others."""

    def decompose(*args: Any, **kwargs: Any) -> Any:
        on_gpu = isinstance(args[0], torch.Tensor) and args[0].device.type == "cuda"
        return route(*args, **kwargs) if on_gpu else decomposed(op, *args, **kwargs)

    return decompose


def _attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> torch.Tensor:
    call = AttentionCall(
        query=query,
        key=key,
        value=value,
        mask=attn_mask,
        dropout=dropout_p,
        is_causal=is_causal,
        enable_gqa=enable_gqa,
    )
    if any(each.is_nested for each in call.tensors):
        raise cuda_kernels.not_simulated("scaled_dot_product_attention", "the lengths of nested tensors are values")
    return attention_kernels.run(call, chosen(call, _gpus[-1]), scale)


def _can_use(backend: SDPBackend) -> Callable[..., bool]:
    def answer(params: Any, debug: bool = False) -> bool:
        call = AttentionCall(
            query=params.query,
            key=params.key,
            value=params.value,
            mask=params.attn_mask,
            dropout=params.dropout,
            is_causal=params.is_causal,
            enable_gqa=params.enable_gqa,
        )
        return params.query.device.type == "cuda" and can_use(backend, call, _gpus[-1])

    return answer


def _rms_norm(
    x: torch.Tensor, normalized_shape: Sequence[int], weight: torch.Tensor | None = None, eps: float | None = None
) -> torch.Tensor:
    """rms_norm_symint of layer_norm.cpp: fused, but for complex numbers and a weight of another type."""
    if x.is_complex() or (weight is not None and weight.dtype != x.dtype):
        composed: torch.Tensor = decomposed(_aten.rms_norm.default, x, normalized_shape, weight, eps)
        return composed
    fused: torch.Tensor = _aten._fused_rms_norm(x, list(normalized_shape), weight, eps)[0]
    return fused


def _linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """Linear of Linear.cpp adds the bias in place to a product of its own, but not where it meets tensor subclasses."""
    if bias is None or x.dim() <= 2 or x.is_contiguous():
        composed: torch.Tensor = decomposed(_aten.linear.default, x, weight, bias)
        return composed
    return torch.matmul(x, weight.t()).add_(bias)


_ROUTES: tuple[tuple[Any, Callable[..., Any]], ...] = (
    (_aten.scaled_dot_product_attention.default, _attention),
    (_aten.rms_norm.default, _rms_norm),
    (_aten.linear.default, _linear),
    (_aten._batch_norm_impl_index.default, batch_norm_impl_index),
    *ctc_loss.ROUTES,
    *recurrent_kernels.ROUTES,
)
