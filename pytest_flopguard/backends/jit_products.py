"""Multiply-adds of the product ops of a torch.jit trace, read from the shapes in the trace.

fvcore brings handles for some of these ops; the ones kept are right for every call that a trace can hold. Its
``matmul`` fails on vectors and miscounts a broadcast batch, its ``linear`` a one-dimensional weight, and its
``einsum`` rounds to four digits, so those are replaced here; the ones that it lacks are added.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from itertools import zip_longest
from math import prod
from typing import Any

from pytest_flopguard.backends.einsum import contraction_products

with warnings.catch_warnings():
    # Importing fvcore compiles functions through torch.jit.script, which torch calls deprecated.
    warnings.simplefilter("ignore")
    from fvcore.nn.jit_handles import addmm_flop_jit, bmm_flop_jit, conv_flop_jit, get_shape, matmul_flop_jit

Shape = tuple[int, ...]
# (inputs, outputs) of a jit node -> multiply-adds.
Handle = Callable[[list[Any], list[Any]], int]


class NoShape(Exception):
    """A traced value whose shape, or whose constant, the trace does not hold."""


def shape_of(value: Any) -> Shape:
    """Return the shape of a traced tensor."""
    sizes = get_shape(value)
    if sizes is None:
        raise NoShape("the trace holds no shape for an operand")
    return tuple(sizes)


def _integers(value: Any) -> list[int]:
    """Return a list of integers that the trace holds as a constant or as a list of constants."""
    constant = value.toIValue()
    if constant is None:
        constant = [each.toIValue() for each in value.node().inputs()]
    if any(type(each) is not int for each in constant):
        raise NoShape("the trace holds no constant for a dimension")
    return list(constant)


def _broadcast(*leads: Sequence[int]) -> int:
    """Elements of the broadcast of leading dimensions; where they differ, the one that is not 1 wins."""
    pairs = zip_longest(*(tuple(reversed(lead)) for lead in leads), fillvalue=1)
    return prod(0 if 0 in pair else max(pair) for pair in pairs)


def _fvcore(handle: Callable[[list[Any], list[Any]], Any]) -> Handle:
    """Use fvcore's own handle, which returns a number or a counter with one entry."""

    def products(inputs: list[Any], outputs: list[Any]) -> int:
        for each in inputs[:3]:
            if each.type().kind() == "TensorType":
                shape_of(each)
        found = handle(inputs, outputs)
        return int(sum(found.values())) if isinstance(found, dict) else int(found)

    return products


def matmul(inputs: list[Any], outputs: list[Any]) -> int:
    """[*, M, K] @ [*, K, N], vectors included: broadcast batch * M * K * N."""
    a, b = shape_of(inputs[0]), shape_of(inputs[1])
    rows = a[-2] if len(a) > 1 else 1
    columns = b[-1] if len(b) > 1 else 1
    return _broadcast(a[:-2], b[:-2]) * rows * a[-1] * columns


def linear(inputs: list[Any], outputs: list[Any]) -> int:
    """[*, K] with a weight [N, K] or [K]: elements of the input times N."""
    x, weight = shape_of(inputs[0]), shape_of(inputs[1])
    return prod(x) * prod(weight[:-1])


def elements_of(position: int) -> Handle:
    """Of mv, dot and their kin: each element of the operand at ``position`` is used once."""

    def products(inputs: list[Any], outputs: list[Any]) -> int:
        return prod(shape_of(inputs[position]))

    return products


def batched_add(inputs: list[Any], outputs: list[Any]) -> int:
    """Of baddbmm and addbmm, bias + [B, M, K] @ [B, K, N]: B * M * K * N."""
    return prod(shape_of(inputs[1])) * shape_of(inputs[2])[-1]


def plain_add(inputs: list[Any], outputs: list[Any]) -> int:
    """Of addmm in place or with an activation, bias + [M, K] @ [K, N]: M * K * N."""
    return batched_add(inputs, outputs)


def rank_one(inputs: list[Any], outputs: list[Any]) -> int:
    """Of addr, bias + [M] (x) [N]: M * N."""
    return prod(shape_of(inputs[1])) * prod(shape_of(inputs[2]))


def vecdot(inputs: list[Any], outputs: list[Any]) -> int:
    """Two vectors are a dot product; torch multiplies and sums anything larger, elementwise."""
    x, y = shape_of(inputs[0]), shape_of(inputs[1])
    return x[0] if len(x) == len(y) == 1 else 0


def chain(inputs: list[Any], outputs: list[Any]) -> int:
    """A chain of matrices, of which the first and last may be vectors, in torch's cheapest order."""
    shapes = [shape_of(each) for each in inputs[0].node().inputs()]
    first = (1, *shapes[0]) if len(shapes[0]) == 1 else shapes[0]
    sizes = (*first, *(shape[1] if len(shape) > 1 else 1 for shape in shapes[1:]))
    # cheapest[i, j]: least multiply-adds for the matrices i .. j - 1.
    cheapest = {(start, start + 1): 0 for start in range(len(shapes))}
    for length in range(2, len(shapes) + 1):
        for start in range(len(shapes) - length + 1):
            end = start + length
            cheapest[start, end] = min(
                cheapest[start, cut] + cheapest[cut, end] + sizes[start] * sizes[cut] * sizes[end]
                for cut in range(start + 1, end)
            )
    return cheapest[0, len(shapes)]


def grouped(inputs: list[Any], outputs: list[Any]) -> int:
    """Products of groups side by side in one dimension of a or b: each row (column, inner index) is used once."""
    a, b = shape_of(inputs[0]), shape_of(inputs[1])
    return prod(a[-2:]) * b[-1] if len(a) > len(b) else prod(a) * b[-1]


def inner(inputs: list[Any], outputs: list[Any]) -> int:
    """[*a, K] and [*b, K]: every row of a with every row of b; a scalar operand only scales, elementwise."""
    a, b = shape_of(inputs[0]), shape_of(inputs[1])
    return prod(a) * prod(b[:-1]) if a and b else 0


def tensordot(inputs: list[Any], outputs: list[Any]) -> int:
    """Free elements of a, free elements of b, and the contracted ones; a contracted pair of 1 and n sums n first."""
    a, b = shape_of(inputs[0]), shape_of(inputs[1])
    dims_a, dims_b = _integers(inputs[2]), _integers(inputs[3])
    free_a = prod(size for dim, size in enumerate(a) if dim not in {each % len(a) for each in dims_a})
    free_b = prod(size for dim, size in enumerate(b) if dim not in {each % len(b) for each in dims_b})
    return free_a * free_b * prod(min(a[left], b[right]) for left, right in zip(dims_a, dims_b, strict=True))


def einsum(inputs: list[Any], outputs: list[Any]) -> int:
    """The pairwise products that torch contracts, along the path that the call holds."""
    operands = [shape_of(each) for each in inputs[1].node().inputs()]
    path = None if len(inputs) < 3 or inputs[2].type().kind() == "NoneType" else _integers(inputs[2])
    return contraction_products(inputs[0].toIValue(), operands, path)


def recurrent(inputs: list[Any], outputs: list[Any]) -> int:
    """Of LSTM, GRU and RNN layers: every weight matrix once for each batch item and time step."""
    x = shape_of(inputs[0])
    # Packed sequences come as [steps of all, width] with their batch sizes, which moves the weights by one place.
    weights = inputs[2 if len(x) == 3 else 3].node().inputs()
    matrices = [shape for shape in map(shape_of, weights) if len(shape) == 2]
    return prod(x[:-1]) * sum(map(prod, matrices))


def convolution_mode(inputs: list[Any], outputs: list[Any]) -> int:
    """A convolution with padding="same" or "valid": the weight once for each batch item and output position."""
    out = shape_of(outputs[0])
    return prod(shape_of(inputs[1])) * out[0] * prod(out[2:])


def conv_tbc(inputs: list[Any], outputs: list[Any]) -> int:
    """Time-batch-channel layout: the weight [kernel, in, out] once for each of time * batch output positions."""
    return prod(shape_of(inputs[1])) * prod(shape_of(outputs[0])[:2])


def attention(inputs: list[Any], outputs: list[Any]) -> int:
    """[*, H, S_q, d] x [*, H_kv, S_k, d] x [*, H_kv, S_k, d_v]: * H * S_q * S_k * (d + d_v).

    Dense: a causal flag or a mask changes nothing. Of grouped heads the queries' number counts.
    """
    query, key, value = (shape_of(each) for each in inputs[:3])
    pairs = _broadcast(query[:-2], key[:-2], value[:-2]) * query[-2] * key[-2]
    return pairs * (query[-1] + value[-1])


def multi_head_attention(inputs: list[Any], outputs: list[Any]) -> int:
    """Of nn.MultiheadAttention's inference op, [B, S, E]: projections B*E*E*(2*S_q + 2*S_k), core 2*B*S_q*S_k*E."""
    (batch, queries, width), keys = shape_of(inputs[0]), shape_of(inputs[1])[1]
    return batch * width * width * 2 * (queries + keys) + 2 * batch * queries * keys * width


def encoder_layer(inputs: list[Any], outputs: list[Any]) -> int:
    """Of nn.TransformerEncoderLayer's inference op: self-attention, and two products with [ff, E] weights."""
    source = shape_of(inputs[0])
    weights = prod(shape_of(inputs[14])) + prod(shape_of(inputs[16]))
    return multi_head_attention([inputs[0], inputs[0]], outputs) + source[0] * source[1] * weights


HANDLES: dict[str, Handle] = {
    "aten::mm": _fvcore(matmul_flop_jit),
    "aten::addmm": _fvcore(addmm_flop_jit),
    "aten::bmm": _fvcore(bmm_flop_jit),
    "aten::_convolution": _fvcore(conv_flop_jit),
    "aten::_convolution_mode": convolution_mode,
    "aten::conv_tbc": conv_tbc,
    "aten::matmul": matmul,
    "aten::linalg_matmul": matmul,
    "aten::linear": linear,
    "aten::addmm_": plain_add,
    "aten::_addmm_activation": plain_add,
    "aten::baddbmm": batched_add,
    "aten::baddbmm_": batched_add,
    "aten::addbmm": batched_add,
    "aten::addbmm_": batched_add,
    "aten::mv": elements_of(0),
    "aten::addmv": elements_of(1),
    "aten::addmv_": elements_of(1),
    "aten::dot": elements_of(0),
    "aten::vdot": elements_of(0),
    "aten::addr": rank_one,
    "aten::addr_": rank_one,
    "aten::inner": inner,
    "aten::linalg_vecdot": vecdot,
    "aten::linalg_multi_dot": chain,
    "aten::chain_matmul": chain,
    "aten::_grouped_mm": grouped,
    "aten::_scaled_grouped_mm": grouped,
    "aten::_int_mm": matmul,
    "aten::_scaled_mm": matmul,
    "aten::tensordot": tensordot,
    "aten::einsum": einsum,
    "aten::lstm": recurrent,
    "aten::gru": recurrent,
    "aten::rnn_tanh": recurrent,
    "aten::rnn_relu": recurrent,
    "aten::scaled_dot_product_attention": attention,
    "aten::_native_multi_head_attention": multi_head_attention,
    "aten::_transformer_encoder_layer_fwd": encoder_layer,
}
