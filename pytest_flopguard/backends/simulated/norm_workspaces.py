"""Hidden memory of normalisations, softmax and losses: copies that are laid out anew, partial sums of gradients.

Sources, under aten/src/ATen/native/cuda: layer_norm_kernel.cu (LaunchGammaBetaBackwardCUDAKernel),
group_norm_kernel.cu (GroupNormKernelImplInternal, GroupNormBackwardKernelImplInternal), Normalization.cu, SoftMax.cu
(softmax_backward_cuda_out, host_softmax, host_softmax_backward), ForeachReduceOp.cu (foreach_tensor_norm_cuda).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import ceil, prod
from types import MappingProxyType

import torch

from pytest_flopguard.backends.simulated.hidden_memory import (
    Call,
    Entry,
    Hidden,
    UnknownWorkspace,
    copies,
    few_arrays,
    size_of,
)
from pytest_flopguard.backends.simulated.reduction_workspaces import reduce_over

_FLOAT = 4
# kChunkSize of MultiTensorApply.cuh: elements that one block of threads gets.
_CHUNK = 65_536


def _item(tensor: torch.Tensor) -> int:
    """Bytes of a statistic: float32, or float64 for float64 inputs (``acc_type``)."""
    return max(_FLOAT, tensor.element_size())


def _copied(*positions: int) -> Callable[[Call], tuple[int, ...]]:
    """Build the entry of an op that reads some of its arguments contiguous."""

    def entry(call: Call) -> tuple[int, ...]:
        return copies(*(call.args[at] for at in positions if len(call.args) > at))

    return entry


def _row_norm_backward(call: Call) -> Hidden:
    """Of LayerNorm and RMSNorm: partial sums of the weights' gradients where rows are many and short."""
    grad, x, shape = call.args[0], call.args[1], call.args[2]
    copied = copies(grad, x)
    width = prod(shape)
    rows = x.numel() // width if width else 0
    across = ceil(width / 32)
    if not (rows > 64 * 1024 and width // 32 < call.gpu.multiprocessors // 2):
        return copied
    down = min(64 * 1024 // 2 // across, ceil(rows / 32))
    partial = x.new_empty((down, width), device="meta")
    made = [each for each in call.out[1:] if isinstance(each, torch.Tensor)]
    sums = reduce_over(partial, 0, _item(x), call.gpu, x.dtype, 8 if x.element_size() == 2 else 4)
    return (*copied, *([size_of(partial)] * len(made)), *sums)


def _group_norm(call: Call) -> Hidden:
    """Scale and shift of every channel."""
    x, batch, channels, pixels = call.args[0], call.args[3], call.args[4], call.args[5]
    return copies(x) if pixels == 1 else (*copies(x), *[_item(x) * batch * channels] * 2)


def _group_norm_backward(call: Call) -> Hidden:
    """Sums of dY and dY * X for every channel; factors for every channel (with a weight) and group."""
    grad, x, weight = call.args[0], call.args[1], call.args[4]
    batch, channels, pixels, groups = call.args[5:9]
    copied = copies(grad, x)
    if pixels == 1:
        return copied
    every, grouped = _item(x) * batch * channels, _item(x) * batch * groups
    factors = [grouped, grouped] if weight is None else [every, grouped, grouped]
    return (*copied, every, every, *(factors if call.args[9][0] else ()))


def _batch_norm(call: Call) -> Hidden:
    """Outside training the inverse deviation of every channel; in training a stage where channels come last."""
    x, training = call.args[0], call.args[5]
    if not training:
        return (_item(x) * x.shape[1],)
    return _staged(x)


def _batch_norm_backward(call: Call) -> Hidden:
    return _staged(call.args[1])


def _staged(x: torch.Tensor) -> Hidden:
    if x.is_contiguous():
        return ()
    reason = f"the stage of a batch normalisation with channels last over {tuple(x.shape)}"
    return UnknownWorkspace(reason=reason, most=few_arrays(x))


def _softmax_backward(call: Call) -> Hidden:
    """``tmp = grad * output``, as large as the output."""
    grad, output = call.args[0], call.args[1]
    wide = grad if grad.element_size() >= output.element_size() else output
    return (size_of(wide), *copies(output))


def _foreach_norm(call: Call) -> Hidden:
    """A partial norm of every chunk of every tensor, as many for each as the largest has."""
    tensors = call.args[0]
    most = max((ceil(each.numel() / _CHUNK) for each in tensors), default=0)
    return (len(tensors) * most * _item(tensors[0]),) if tensors else ()


ENTRIES: Mapping[str, Entry] = MappingProxyType(
    {
        "aten::native_layer_norm": _copied(0),
        "aten::native_layer_norm_backward": _row_norm_backward,
        "aten::_fused_rms_norm": _copied(0),
        "aten::_fused_rms_norm_backward": _row_norm_backward,
        "aten::native_group_norm": _group_norm,
        "aten::native_group_norm_backward": _group_norm_backward,
        "aten::native_batch_norm": _batch_norm,
        "aten::native_batch_norm_backward": _batch_norm_backward,
        "aten::_softmax": _copied(0),
        "aten::_log_softmax": _copied(0),
        "aten::_softmax_backward_data": _softmax_backward,
        "aten::_log_softmax_backward_data": _copied(0, 1),
        "aten::_foreach_norm": _foreach_norm,
    }
)
