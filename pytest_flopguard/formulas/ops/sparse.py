"""Ops on sparse tensors."""

from __future__ import annotations

_FREE = """
_coalesced _convert_indices_from_coo_to_csr _convert_indices_from_csr_to_coo _sparse_coo_tensor_with_dims
_sparse_coo_tensor_with_dims_and_tensors _sparse_mask_projection _spdiags _to_dense _to_sparse _to_sparse_bsc
_to_sparse_bsr _to_sparse_csc _to_sparse_csr copy_sparse_to_sparse resize_as_sparse sparse_compressed_tensor
sparse_coo_tensor sparse_mask sparse_resize sparse_resize_and_clear
"""

_UNCOUNTED = "_coalesce _sparse_csr_prod _sparse_csr_sum _sparse_log_softmax _sparse_softmax _sparse_sum"

FREE = tuple(f"aten.{name}" for name in _FREE.split())
UNCOUNTED = tuple(f"aten.{name}" for name in _UNCOUNTED.split())
