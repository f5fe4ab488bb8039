"""Products that are no matrix product by name: distances of all pairs, products of three operands, weighted bags.

What counts is a product whose terms are summed; a product alone is elementwise. So addr, which adds x y^T onto a
matrix, counts, and outer, which torch lowers to a broadcast mul, does not.

A distance of two rows of width M has M terms, each a difference that is raised to a power and added up. Terms are
counted like multiply-adds whatever the power, and whether the kernel forms differences or, for many Euclidean
distances, one matrix product: which one torch picks depends on the shapes, not on the work.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from math import prod
from typing import Any

from pytest_flopguard.core.measurement import Cost
from pytest_flopguard.core.tensors import TensorSpec
from pytest_flopguard.formulas.ops.matmul import broadcast, multiply_adds
from pytest_flopguard.formulas.registry import formula

_SKIPPED = "padding, and indices beyond the last offset, are skipped; which they are is a value, and all are counted"


def _pairs(a: TensorSpec, b: TensorSpec) -> int:
    lead = prod(broadcast(a.shape[:-2], b.shape[:-2]))
    return multiply_adds(lead * a.shape[-2] * b.shape[-2] * a.shape[-1], a)


@formula("aten._cdist_forward", "aten._euclidean_dist")
def distances(a: TensorSpec, b: TensorSpec, *_: Any) -> int:
    """[*, P, M] against [*, R, M]: P*R distances of M terms: 2 * B*P*R*M."""
    return _pairs(a, b)


@formula("aten._cdist_backward")
def distances_backward(grad: TensorSpec, a: TensorSpec, b: TensorSpec, *_: Any) -> int:
    """The gradient of a alone: each of its rows collects M terms from every row of b: 2 * B*P*R*M."""
    return _pairs(a, b)


@formula("aten._pdist_forward")
def own_distances(x: TensorSpec, *_: Any) -> int:
    """[N, M] against itself: N*(N-1)/2 distances of M terms: N*(N-1)*M."""
    return x.numel * (x.shape[0] - 1) if x.numel else 0


@formula("aten._pdist_backward")
def own_distances_backward(grad: TensorSpec, x: TensorSpec, *_: Any) -> int:
    """Each distance is passed on to both of its rows: twice own_distances."""
    return 2 * own_distances(x)


def _meet(a: Sequence[int], b: Sequence[int]) -> tuple[int, ...]:
    return tuple(max(pair) if all(pair) else 0 for pair in zip_longest(a, b, fillvalue=1))


def _expanded(operand: TensorSpec, dims: Sequence[int]) -> tuple[int, ...]:
    sizes = list(operand.shape)
    for dim in sorted(dims):
        sizes.insert(dim, 1)
    return tuple(sizes)


@formula("aten._trilinear")
def trilinear(
    a: TensorSpec,
    b: TensorSpec,
    c: TensorSpec,
    expand_a: Sequence[int],
    expand_b: Sequence[int],
    expand_c: Sequence[int],
    summed: Sequence[int],
    unrolled: int = 1,
) -> int:
    """A sum of products of three, for nn.Bilinear and its gradients: a times b, then that times c.

    Each of the two counts 2 for each of its terms if any dimension is summed right after it. Dimensions that c lacks
    are summed after the first, except the unrolled one, over which torch loops and adds up the results of the second.
    """
    first = _meet(_expanded(a, expand_a), _expanded(b, expand_b))
    early = [dim for dim in summed if dim in expand_c and dim != unrolled]
    between = tuple(1 if dim in early else size for dim, size in enumerate(first))
    second = _meet(between, _expanded(c, expand_c))
    terms = prod(first) if early else 0
    return multiply_adds(terms + (prod(second) if len(early) < len(summed) else 0), a)


def _weighted(table: TensorSpec, indices: TensorSpec, weights: TensorSpec | None, skips: bool = False) -> Cost:
    flops = multiply_adds(indices.numel * table.shape[-1], table) if weights is not None else 0
    return Cost(kind="counted", flops=flops, at_most=_SKIPPED if skips and flops else "")


@formula("aten._embedding_bag", "aten._embedding_bag_forward_only")
def embedding_bag(
    table: TensorSpec,
    indices: TensorSpec,
    offsets: TensorSpec,
    scale_grad_by_freq: bool = False,
    mode: int = 0,
    sparse: bool = False,
    weights: TensorSpec | None = None,
    include_last_offset: bool = False,
    padding_idx: int = -1,
    **_: Any,
) -> Cost:
    """With weights, a product of a sparse [bags, V] and the [V, D] table: 2 * indices * D; else sums alone: 0.

    Padding and what lies beyond a last offset is skipped: then it is an upper bound.
    """
    return _weighted(table, indices, weights, skips=include_last_offset or padding_idx >= 0)


@formula("aten._embedding_bag_backward")
def embedding_bag_backward(grad: TensorSpec, indices: TensorSpec, *rest: Any) -> Cost:
    """The table's gradient: each index adds its weighted row of the gradient to the table's: 2 * indices * D."""
    return _weighted(grad, indices, _weights(rest[8:9]), skips=_padded(rest[9:10]))


@formula("aten._embedding_bag_dense_backward")
def embedding_bag_dense_backward(grad: TensorSpec, indices: TensorSpec, *rest: Any, **_: Any) -> Cost:
    """As embedding_bag_backward, with other arguments before the weights."""
    return _weighted(grad, indices, _weights(rest[6:7]), skips=_padded(rest[7:8]))


def _weights(found: Sequence[TensorSpec | None]) -> TensorSpec | None:
    return found[0] if found else None


def _padded(found: Sequence[int]) -> bool:
    return bool(found) and found[0] >= 0


@formula("aten._embedding_bag_per_sample_weights_backward")
def embedding_bag_weights_backward(
    grad: TensorSpec, table: TensorSpec, indices: TensorSpec, *rest: Any, **_: Any
) -> Cost:
    """Each weight's gradient is a dot product of a row of the gradient and a row of the table: 2 * indices * D."""
    return _weighted(table, indices, table, skips=_padded(rest[3:4]))
