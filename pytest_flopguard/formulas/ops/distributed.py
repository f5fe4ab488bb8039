"""Collectives and what shards tensors: they move data, and where they reduce, they add or compare.

Ops of symmetric memory also fuse a product with the collective before or after it; the product counts as it does alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pytest_flopguard.core.tensors import TensorSpec
from pytest_flopguard.formulas.ops.matmul import multiply_adds
from pytest_flopguard.formulas.registry import formula

_FREE = {
    "c10d": """
        _allgather_base_ allgather_ allgather_coalesced_ allgather_into_tensor_coalesced_ alltoall_ alltoall_base_
        barrier broadcast_ check_for_nan gather_ gather_into_tensor_ monitored_barrier_ recv_ recv_any_source_
        scatter_ send
    """,
    "_c10d_functional": """
        _wrap_tensor_autograd all_gather_into_tensor all_gather_into_tensor_coalesced all_gather_into_tensor_out
        all_to_all_single batch_p2p_ops broadcast irecv isend wait_tensor wait_tensors
    """,
    "_c10d_functional_autograd": "all_gather_into_tensor all_to_all_single",
    "_dtensor": "mesh_get_process_group shard_dim_alltoall",
    "fsdp": """
        all_gather_copy_in chunk_cat chunk_cat_mixed_dtype copy_ record_grad_output_stream split_with_sizes_copy
    """,
    "symm_mem": """
        _barrier _low_contention_all_gather _low_contention_all_gather_ce_multicast
        _low_contention_all_gather_ce_multicast_out _rendezvous all_to_all_vdev all_to_all_vdev_2d
        all_to_all_vdev_2d_offset get_remote_tensors memcpy_to_multicast_ memset32_ multimem_all_gather_out
        nccl_all_to_all_nd nccl_get nccl_get_out nccl_put nccl_put_signal nccl_wait_for_signal nccl_wait_signal
        nvshmem_all_to_all nvshmem_broadcast nvshmem_get nvshmem_get_out nvshmem_put nvshmem_wait_for_signal
        stream_write_value32_
    """,
}

_UNCOUNTED = {
    "c10d": """
        _reduce_scatter_base_ allreduce_ allreduce_coalesced_ reduce_ reduce_scatter_ reduce_scatter_tensor_coalesced_
    """,
    "_c10d_functional": """
        all_reduce all_reduce_coalesced reduce_scatter_tensor reduce_scatter_tensor_coalesced reduce_scatter_tensor_out
    """,
    "_c10d_functional_autograd": "reduce_scatter_tensor",
    "symm_mem": """
        _low_contention_reduce_scatter multi_root_tile_reduce multimem_all_reduce_ multimem_one_shot_all_reduce
        multimem_one_shot_all_reduce_out multimem_one_shot_reduce_out nccl_reduce_scatter_offset one_shot_all_reduce
        one_shot_all_reduce_copy one_shot_all_reduce_copy_out one_shot_all_reduce_out reduce_scatter_out tile_reduce
        two_shot_all_reduce_ two_shot_all_reduce_out
    """,
}

FREE = tuple(f"{space}.{name}" for space, names in _FREE.items() for name in names.split())
UNCOUNTED = tuple(f"{space}.{name}" for space, names in _UNCOUNTED.items() for name in names.split())


@formula("symm_mem.fused_all_gather_matmul", "symm_mem.fused_all_gather_scaled_matmul")
def gathered_products(
    shard: TensorSpec, weights: Sequence[TensorSpec], *_: Any, out: tuple[Any, Sequence[TensorSpec]], **__: Any
) -> int:
    """A gathered from all ranks along any dimension, times each B [K, N]: the sum of 2*numel(result)*K."""
    pairs = zip(out[1], weights, strict=True)
    return sum(multiply_adds(result.numel * weight.shape[0], shard) for result, weight in pairs)


@formula(
    "symm_mem.fused_matmul_reduce_scatter", "symm_mem.fused_scaled_matmul_reduce_scatter", "symm_mem._async_input_mm"
)
def product_then_scattered(a: TensorSpec, b: TensorSpec, *_: Any, **__: Any) -> int:
    """[*, K] @ [K, N], whole before it is scattered: 2*numel(a)*N."""
    return multiply_adds(a.numel * b.shape[-1], a)
