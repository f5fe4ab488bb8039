"""Products with sparse tensors: each stored element meets each column of the dense operand once, zeros do nothing.

Stored elements are counted, explicit zeros and the blocks of BSR and BSC among them. A sparse operand's op has a
formula of its own, ``aten.mm[sparse]``. What two sparse operands have in common depends on their indices, which are
values: unknown. Semi-structured (2 of 4) operands store half of their elements.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pytest_flopguard.core.measurement import Cost
from pytest_flopguard.core.tensors import TensorSpec
from pytest_flopguard.formulas.ops.matmul import multiply_adds
from pytest_flopguard.formulas.registry import Unknown, formula

_FREE = """
_coalesced _convert_indices_from_coo_to_csr _convert_indices_from_csr_to_coo _cslt_compress _sparse_coo_tensor_with_dims
_sparse_coo_tensor_with_dims_and_tensors _sparse_mask_projection _sparse_semi_structured_apply
_sparse_semi_structured_apply_dense _sparse_semi_structured_tile _spdiags _to_dense _to_sparse _to_sparse_bsc
_to_sparse_bsr _to_sparse_csc _to_sparse_csr _to_sparse_semi_structured copy_sparse_to_sparse resize_as_sparse
sparse_compressed_tensor sparse_coo_tensor sparse_mask sparse_resize sparse_resize_and_clear
"""

_UNCOUNTED = "_coalesce _sparse_csr_prod _sparse_csr_sum _sparse_log_softmax _sparse_softmax _sparse_sum"

FREE = tuple(f"aten.{name}" for name in _FREE.split())
UNCOUNTED = tuple(f"aten.{name}" for name in _UNCOUNTED.split())


def _product(a: TensorSpec, b: TensorSpec) -> int:
    """FLOPs of [*, M, K] @ [*, K, N] with one sparse operand."""
    if a.stored is not None and b.stored is not None:
        raise Unknown("how many elements of two sparse tensors meet depends on their indices")
    if a.stored is not None:
        return multiply_adds(a.stored * b.shape[-1], a)
    if b.stored is not None:
        return multiply_adds(a.shape[-2] * b.stored, b)
    raise Unknown("only the result or the tensor that is added is sparse")


@formula("aten.mm[sparse]", "aten.bmm[sparse]", "aten.hspmm[sparse]", "aten._sparse_sparse_matmul[sparse]")
def mm(a: TensorSpec, b: TensorSpec, *_: Any, **__: Any) -> int:
    """Stored elements of one operand times columns (or rows) of the other: 2 * stored * N."""
    return _product(a, b)


@formula("aten.addmm[sparse]", "aten.baddbmm[sparse]", "aten._sparse_addmm[sparse]", "aten.sspaddmm[sparse]")
def addmm(bias: TensorSpec, a: TensorSpec, b: TensorSpec, *_: Any, **__: Any) -> int:
    """As mm; what is added is elementwise."""
    return _product(a, b)


@formula("aten.mv[sparse]")
def mv(a: TensorSpec, x: TensorSpec, *_: Any) -> int:
    """A sparse matrix and a vector: 2 * stored."""
    return _product(a, TensorSpec((*x.shape, 1), stored=x.stored))


@formula("aten.addmv[sparse]")
def addmv(bias: TensorSpec, a: TensorSpec, x: TensorSpec, *_: Any, **__: Any) -> int:
    """As mv."""
    return mv(a, x)


@formula("aten.sparse_sampled_addmm[sparse]")
def sampled_addmm(pattern: TensorSpec, a: TensorSpec, b: TensorSpec, *_: Any, **__: Any) -> int:
    """[M, K] @ [K, N] where the pattern stores an element: a dot product of length K each: 2 * stored * K."""
    return multiply_adds((pattern.stored or 0) * a.shape[-1], a)


@formula("aten._sparse_mm_reduce_impl[sparse]")
def mm_reduce(a: TensorSpec, b: TensorSpec, *_: Any) -> int:
    """As mm, whether the products are summed, averaged or compared."""
    return _product(a, b)


@formula("aten._sparse_mm_reduce_impl_backward[sparse]")
def mm_reduce_backward(
    a: TensorSpec, grad: TensorSpec, b: TensorSpec, reduce: str, argument: TensorSpec, output_mask: Sequence[bool]
) -> int:
    """As mm for each gradient that the output mask asks for: a sampled product, and one with the transposed a."""
    return _product(a, b) * (bool(output_mask[0]) + bool(output_mask[1]))


@formula("aten.triangular_solve[sparse]")
def triangular_solve(b: TensorSpec, a: TensorSpec, *_: Any, **__: Any) -> Cost:
    """Each stored element of the triangle meets each right side once: at most 2 * stored * k."""
    reason = "elements that are stored outside the triangle are not used, and are counted"
    return Cost(kind="counted", flops=multiply_adds((a.stored or 0) * b.shape[-1], a), at_most=reason)


@formula("aten._spsolve[sparse]")
def solve(a: TensorSpec, *_: Any, **__: Any) -> int:
    """Unknown: how a factorisation fills in depends on the indices."""
    raise Unknown("how the factors of a sparse matrix fill in depends on its indices")


@formula("aten._sparse_semi_structured_mm")
def semi_structured_mm(packed: TensorSpec, meta: TensorSpec, b: TensorSpec, *_: Any, **__: Any) -> int:
    """[M, K/2] stored elements and [K, N]: 2 * M*K/2 * N."""
    return multiply_adds(packed.numel * b.shape[-1], packed)


@formula("aten._sparse_semi_structured_addmm")
def semi_structured_addmm(
    bias: TensorSpec, packed: TensorSpec, meta: TensorSpec, b: TensorSpec, *_: Any, **__: Any
) -> int:
    """As semi_structured_mm."""
    return semi_structured_mm(packed, meta, b)


@formula("aten._sparse_semi_structured_linear")
def semi_structured_linear(x: TensorSpec, packed: TensorSpec, *_: Any, **__: Any) -> int:
    """[*, K] and a weight of [N, K/2] stored elements: 2 * rows * N*K/2."""
    rows = x.numel // x.shape[-1] if x.shape[-1] else 0
    return multiply_adds(rows * packed.numel, x)


@formula("aten._cslt_sparse_mm")
def cslt_mm(packed: TensorSpec, b: TensorSpec, *_: Any, out: TensorSpec, **__: Any) -> int:
    """[M, K] packed with its metadata and [K, N]: half of K for each element of the result: M*N*K."""
    return multiply_adds(out.numel * b.shape[-2], b) // 2


@formula("aten._cslt_sparse_mm_search")
def cslt_search(packed: TensorSpec, *_: Any, **__: Any) -> int:
    """Unknown: it runs the product with one algorithm after the other and returns the fastest."""
    raise Unknown("a search runs the product as often as the library has algorithms")
