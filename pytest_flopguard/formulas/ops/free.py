"""Ops that move, make or rename data. Views and factories need no row here: their schema's traits tell."""

from __future__ import annotations

_COPIES = """
clone copy copy_ _to_copy to contiguous _copy_from _copy_from_and_resize cat concat _chunk_cat stack _stack hstack
repeat repeat_interleave roll flip rot90 pixel_shuffle pixel_unshuffle channel_shuffle im2col unfold_copy
constant_pad_nd reflection_pad1d reflection_pad2d reflection_pad3d replication_pad1d replication_pad2d
replication_pad3d tril triu block_diag diag_embed complex lift lift_fresh lift_fresh_copy _lazy_clone _reshape_copy
split_copy split_with_sizes_copy unbind_copy unsafe_split unsafe_split_with_sizes _unsafe_view _reshape_alias
reshape slice_scatter select_scatter diagonal_scatter as_strided_scatter _pin_memory record_stream detach alias
to_mkldnn mkldnn_reorder_conv2d_weight mkldnn_reorder_conv3d_weight _mkldnn_reshape _mkldnn_transpose _to_dense
_to_sparse to_padded_tensor squeeze unsqueeze t transpose
"""

_INDEXING = """
index index_select gather take embedding masked_select nonzero nonzero_static index_put _index_put_impl
_unsafe_index _unsafe_index_put _unsafe_masked_index index_copy index_fill masked_fill masked_scatter
masked_scatter_backward scatter put where select_backward slice_backward diagonal_backward _pack_padded_sequence
embedding_renorm
"""

_FACTORIES = """
empty empty_like empty_strided empty_permuted new_empty new_empty_strided new_full new_ones new_zeros full full_like
ones ones_like zeros zeros_like zero fill scalar_tensor arange range linspace logspace eye tril_indices triu_indices
set resize resize_as _resize_output _efficientzerotensor
"""

_RANDOM = """
rand rand_like randn randn_like randint randint_like randperm random uniform normal normal_functional bernoulli
exponential geometric cauchy log_normal multinomial poisson binomial _standard_gamma _sample_dirichlet
"""

# Ask about a tensor, or order it; comparisons of whole tensors for the host.
_QUERIES = """
_local_scalar_dense item is_same_size is_pinned is_set_to is_coalesced equal allclose _is_all_true _is_any_true
_has_same_storage_numel _assert_async _functional_assert_async _assert_scalar _functional_assert_scalar
_assert_tensor_metadata sym_size sym_stride sym_numel sym_storage_offset dim size stride numel storage_offset
_nnz sparse_dim dense_dim sort argsort topk kthvalue argmax argmin searchsorted bucketize isin unique_consecutive
unique_dim _unique _unique2 _fused_sdp_choice _cudnn_init_dropout_state _nested_tensor_size
"""

# What torch's own Python decompositions end in, under torch.func transforms for one.
_PRIMS = """
as_strided as_strided_scatter cat clone collapse copy_strided copy_to device_put empty empty_permuted empty_strided
fill full full_like iota item normal reshape resize rev scalar_tensor uniform where
"""

_ELSEWHERE = ("prim.device", "prim.layout", "profiler._record_function_enter_new", "profiler._record_function_exit")

FREE: tuple[str, ...] = (
    *(
        f"aten.{name}"
        for names in (_COPIES, _INDEXING, _FACTORIES, _RANDOM, _QUERIES)
        for name in dict.fromkeys(names.split())
    ),
    *(f"prims.{name}" for name in _PRIMS.split()),
    *_ELSEWHERE,
)
