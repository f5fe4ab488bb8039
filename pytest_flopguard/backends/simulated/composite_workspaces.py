"""Hidden memory of ops that torch puts together from others below autograd, where nobody sees them.

Sources, under aten/src/ATen/native: Loss.cpp (mse_loss, smooth_l1_loss, huber_loss, binary_cross_entropy_with_logits),
cuda/Loss.cu (binary_cross_entropy), transformers/attention.cpp (_safe_softmax), TensorCompare.cpp (isinf),
cuda/TensorTransformations.cu and TensorTransformations.h (roll_common).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch

from pytest_flopguard.backends.simulated.hidden_memory import Call, Entry, Hidden, size_of
from pytest_flopguard.backends.simulated.reduction_workspaces import reduce_over

_NO_REDUCTION, _MEAN = 0, 1


def _reduced_loss(reduction_at: int, before: Callable[[Call, int], tuple[int, ...]] = lambda call, size: ()) -> Entry:
    """Build the entry of a loss that is first made for every element, and what its mean or sum takes.

    ``before`` says what else is alive meanwhile, given the bytes of the loss of all elements.
    """

    def entry(call: Call) -> Hidden:
        x, target = call.args[0], call.args[1]
        every = x.new_empty(torch.broadcast_shapes(x.shape, target.shape), dtype=call.out.dtype, device="meta")
        kept = before(call, size_of(every))
        if call.argument(reduction_at, "reduction", _MEAN) == _NO_REDUCTION:
            return kept
        item = every.element_size()
        vector = 8 if item == 2 else 4
        return (*kept, size_of(every), *reduce_over(every, None, max(4, item), call.gpu, every.dtype, vector))

    return entry


def _logits(call: Call, size: int) -> tuple[int, ...]:
    """The logarithm of the sigmoid, and the positive weights for every element."""
    return (size,) if call.argument(3, "pos_weight") is None else (size, size)


def _safe_softmax(call: Call) -> Hidden:
    """The softmax, which of its inputs are minus infinity, which rows are so throughout, and two scalars."""
    x, dim, out = call.args[0], call.args[1], call.out
    rows = out.numel() // out.shape[dim] if out.numel() else 0
    return (size_of(out), out.element_size(), x.numel(), rows, out.element_size())


def _isinf(call: Call) -> Hidden:
    """The absolute values; integers are never infinite."""
    return (size_of(call.args[0]),) if call.args[0].is_floating_point() else ()


def _roll(call: Call) -> Hidden:
    """Each dim but the last is rolled into a tensor of its own; two are alive while the next is made."""
    further = len(call.argument(2, "dims", ()) or ()) - 1
    return (size_of(call.args[0]),) * min(further, 2) if further > 0 else ()


ENTRIES: Mapping[str, Entry] = MappingProxyType(
    {
        "aten::mse_loss": _reduced_loss(2),
        "aten::smooth_l1_loss": _reduced_loss(2),
        "aten::huber_loss": _reduced_loss(2),
        "aten::binary_cross_entropy": _reduced_loss(3),
        "aten::binary_cross_entropy_with_logits": _reduced_loss(4, _logits),
        "aten::_safe_softmax": _safe_softmax,
        "aten::isinf": _isinf,
        "aten::roll": _roll,
    }
)
