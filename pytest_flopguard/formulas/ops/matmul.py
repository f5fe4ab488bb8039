"""Matrix products. [M, K] @ [K, N] is M*N dot products of length K: M*N*K multiply-adds, 2*M*N*K FLOPs.

The bias or ``beta * input`` that addmm and its kin add is M*N elementwise additions, which the convention leaves
out. A complex multiply-add is 4 real multiplications and 4 real additions: 8 FLOPs.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import zip_longest
from math import prod
from typing import Any

from pytest_flopguard.core.measurement import Cost, OpCall
from pytest_flopguard.core.tensors import TensorSpec
from pytest_flopguard.formulas.registry import formula

_NO_OFFSETS = "where the last group ends is a value, which does not exist here; all of the cut dimension is counted"


def multiply_adds(number: int, operand: TensorSpec) -> int:
    """FLOPs of a number of multiply-adds on elements of the operand's dtype."""
    if operand.dtype.endswith("_x2"):
        # Two 4-bit numbers share an element, in the dimension that is summed over.
        number *= 2
    return (8 if operand.is_complex else 2) * number


def broadcast(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape that two shapes broadcast to."""
    pairs = zip_longest(reversed(a), reversed(b), fillvalue=1)
    return tuple(right if left == 1 else left for left, right in pairs)[::-1]


def _product(a: TensorSpec, b: TensorSpec) -> int:
    # Rows of a and columns of b meet once for every inner index; b's leading dimensions are a's batch.
    return multiply_adds(a.numel * b.shape[-1], a)


@formula("aten.mm", "aten._int_mm", "aten._scaled_mm", "aten._scaled_mm_v2")
def mm(a: TensorSpec, b: TensorSpec, *_: Any, **__: Any) -> int:
    """[M, K] @ [K, N]: 2*M*K*N."""
    return _product(a, b)


@formula("aten.addmm", "aten._addmm_activation", "aten._scaled_addmm")
def addmm(bias: TensorSpec, a: TensorSpec, b: TensorSpec, *_: Any, **__: Any) -> int:
    """Bias + [M, K] @ [K, N]: 2*M*K*N."""
    return _product(a, b)


@formula("aten.bmm")
def bmm(a: TensorSpec, b: TensorSpec, *_: Any, **__: Any) -> int:
    """[B, M, K] @ [B, K, N]: 2*B*M*K*N."""
    return _product(a, b)


@formula("aten.baddbmm", "aten.addbmm")
def baddbmm(bias: TensorSpec, a: TensorSpec, b: TensorSpec, *_: Any, **__: Any) -> int:
    """Bias + [B, M, K] @ [B, K, N]: 2*B*M*K*N; addbmm also sums over B, inside the same dot products."""
    return _product(a, b)


@formula("aten.mv")
def mv(a: TensorSpec, x: TensorSpec) -> int:
    """[M, K] @ [K]: 2*M*K."""
    return multiply_adds(a.numel, a)


@formula("aten.addmv")
def addmv(bias: TensorSpec, a: TensorSpec, x: TensorSpec, *_: Any, **__: Any) -> int:
    """Bias + [M, K] @ [K]: 2*M*K."""
    return multiply_adds(a.numel, a)


@formula("aten.dot", "aten.vdot")
def dot(x: TensorSpec, y: TensorSpec) -> int:
    """[K] . [K]: 2*K."""
    return multiply_adds(x.numel, x)


@formula("aten.addr")
def addr(bias: TensorSpec, x: TensorSpec, y: TensorSpec, *_: Any, **__: Any) -> int:
    """Bias + [M] (x) [N], a product with K = 1: 2*M*N."""
    return multiply_adds(x.numel * y.numel, x)


@formula("aten.linear")
def linear(x: TensorSpec, weight: TensorSpec, bias: TensorSpec | None = None) -> int:
    """[*, K] @ [N, K].T: 2 * numel(x) * N; seen undecomposed in inference mode only."""
    return multiply_adds(x.numel * (weight.shape[0] if weight.ndim == 2 else 1), x)


@formula("aten.matmul")
def matmul(a: TensorSpec, b: TensorSpec) -> int:
    """Broadcast product of [*, M, K] and [*, K, N] (or vectors): 2 * numel(out) * K; in inference mode only."""
    columns = b.shape[-1] if b.ndim > 1 else 1
    rows = a.shape[-2] if a.ndim > 1 else 1
    batch = prod(broadcast(a.shape[:-2], b.shape[:-2]))
    return multiply_adds(batch * rows * a.shape[-1] * columns, a)


@formula("aten._grouped_mm", "aten._scaled_grouped_mm", "aten._scaled_grouped_mm_v2", reads=("offs",))
def grouped_mm(
    a: TensorSpec, b: TensorSpec, offs: TensorSpec | None = None, *_: Any, call: OpCall | None = None, **__: Any
) -> Cost:
    """Products of groups that lie side by side in one dimension of a or b, cut at ``offs``.

    a [T, K], b [G, K, N]: each row of a meets one group's matrix: 2*T*K*N.
    a [M, T], b [T, N]: the inner dimension is cut, all of it is used once: 2*M*T*N.
    a [G, M, K], b [K, T]: each column of b meets one group's matrix: 2*M*K*T.
    a [G, M, K], b [G, K, N]: as bmm, without ``offs``.
    What lies beyond ``offs[-1]`` is in no group and is not multiplied, so T is ``offs[-1]``.
    """
    if call is not None and call.names:
        offs = call.by_name.get("offs")
    if a.ndim == b.ndim == 3:
        return Cost(kind="counted", flops=_product(a, b))
    length = a.shape[0] if b.ndim == 3 else b.shape[-1] if a.ndim == 3 else a.shape[1]
    each = a.shape[1] * b.shape[-1] if b.ndim == 3 else prod(a.shape[-2:]) if a.ndim == 3 else a.shape[0] * b.shape[-1]
    if offs is None or offs.values is None:
        return Cost(kind="counted", flops=multiply_adds(length * each, a), at_most=_NO_OFFSETS)
    used = min(max(offs.values[-1], 0), length) if offs.values else 0
    return Cost(kind="counted", flops=multiply_adds(used * each, a))


@formula("transformers.grouped_mm_fallback", reads=("offs",))
def grouped_mm_fallback(a: TensorSpec, b: TensorSpec, offs: TensorSpec, *_: Any) -> Cost:
    """grouped_mm of rows, one product for each expert: 2*T*K*N."""
    return grouped_mm(a, b, offs)


@formula("transformers.grouped_mm_fallback_backward", reads=("offs",))
def grouped_mm_fallback_backward(a: TensorSpec, b: TensorSpec, offs: TensorSpec, *_: Any) -> Cost:
    """Both gradients, whichever is asked for: twice grouped_mm_fallback."""
    once = grouped_mm(a, b, offs)
    return replace(once, flops=2 * (once.flops or 0))


@formula("aten._foreach_mm")
def foreach_mm(a: list[TensorSpec], b: list[TensorSpec]) -> int:
    """A list of products [M, K] @ [K, N]: the sum of 2*M*K*N."""
    return sum(_product(left, right) for left, right in zip(a, b, strict=True))


@formula("aten._compute_linear_combination")
def linear_combination(terms: TensorSpec, coefficients: TensorSpec, *_: Any, **__: Any) -> int:
    """[M, K] coefficients times K tensors of one size: 2 * M * numel(terms)."""
    return multiply_adds(coefficients.shape[0] * terms.numel, terms)
