"""Ops that move, make or rename data, or ask about it.

Views, factories, random numbers and questions need no row here: their schemas tell, see backends/op_traits.py.
"""

from __future__ import annotations

_COPIES = """
clone copy _to_copy _copy_from _copy_from_and_resize cat concat _chunk_cat stack _stack hstack repeat
repeat_interleave roll flip rot90 pixel_shuffle pixel_unshuffle channel_shuffle im2col constant_pad_nd
reflection_pad1d reflection_pad2d reflection_pad3d replication_pad1d replication_pad2d replication_pad3d tril triu
block_diag diag_embed complex lift _lazy_clone _reshape_copy split_copy split_with_sizes_copy unbind_copy narrow_copy
unsafe_split unsafe_split_with_sizes _unsafe_view select_scatter diagonal_scatter as_strided_scatter _pin_memory
record_stream shallow_copy_data_ to_mkldnn mkldnn_reorder_conv2d_weight mkldnn_reorder_conv3d_weight _mkldnn_reshape
_mkldnn_transpose
"""

_INDEXING = """
index index_select gather take embedding masked_select nonzero nonzero_static index_put _index_put_impl
_unsafe_index _unsafe_index_put _unsafe_masked_index index_copy index_fill masked_fill masked_scatter
masked_scatter_backward scatter put where select_backward slice_backward diagonal_backward _pack_padded_sequence
embedding_renorm
"""

_FACTORIES = """
empty_like new_empty new_empty_strided new_full new_ones new_zeros _new_zeros_with_same_feature_meta full_like
ones_like zeros_like zero fill linspace logspace set resize resize_as _resize_output
"""

# The keys of counter-based generators; what torch tags as random needs no row.
_RANDOM = """
randint_like normal bernoulli binomial _philox_key_fold_in _philox_key_split _philox_normal _philox_uniform
_philox_randint
"""

_ORDER = """
sort argsort topk kthvalue argmax argmin searchsorted bucketize isin unique_consecutive unique_dim
unique_dim_consecutive _unique _unique2
"""

_CHECKS = """
_is_all_true _is_any_true _functional_assert_async _functional_assert_scalar _functional_sym_constrain_range
_functional_sym_constrain_range_for_size
"""

_NESTED = """
_jagged_to_padded_dense_forward _padded_dense_to_jagged_forward to_padded_tensor
_nested_compute_contiguous_strides_offsets _nested_from_padded _nested_from_padded_and_nested_example
_nested_from_padded_tensor _nested_get_jagged_dummy _nested_get_lengths _nested_get_max_seqlen
_nested_get_min_seqlen _nested_get_offsets _nested_select_backward _nested_tensor_from_mask
_nested_tensor_from_tensor_list _nested_tensor_size _nested_tensor_storage_offsets _nested_tensor_strides
"""

# What torch's own Python decompositions end in, under torch.func transforms for one; most are aten ops by name.
_PRIMS = """
as_strided collapse copy_strided copy_to device_put reshape rev inductor_force_stride_order inductor_lookup_seed
inductor_randint inductor_random
"""

# Bookkeeping: streams, memory pools, ranges of a profile, storage that is resized, offsets of a generator.
_ELSEWHERE = """
coor.current_device coor.current_device_index debug_mode_ops.annotate export.access_subclass_inner_tensor
inductor._reinterpret_tensor inductor.resize_storage_bytes_ inductor_prims.inductor_reserve_rng_state mempool.begin
mempool.end prim.device prim.layout profiler._record_function_enter profiler._record_function_enter_new
profiler._record_function_exit rngprims.philox_rand streams.fork streams.join streams.record_event
streams.record_stream streams.sync_dealloc streams.synchronize_device streams.synchronize_event
streams.synchronize_stream streams.wait_event streams.wait_stream
"""

FREE: tuple[str, ...] = (
    *(
        f"aten.{name}"
        for names in (_COPIES, _INDEXING, _FACTORIES, _RANDOM, _ORDER, _CHECKS, _NESTED)
        for name in names.split()
    ),
    *(f"prims.{name}" for name in _PRIMS.split()),
    *_ELSEWHERE.split(),
)
