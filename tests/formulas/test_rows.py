"""The built-in rows: each names an op that torch has, and what torch's own tags say of it is not contradicted."""

from __future__ import annotations

import importlib
from contextlib import suppress

import pytest
import torch
from torch.torch_version import TorchVersion

from pytest_flopguard.formulas.ops import BUILT_IN
from pytest_flopguard.formulas.registry import Registry

# Rows for ops that the oldest supported torch does not have yet, by the release that brings them.
NEW_IN = {
    "2.12": """
        _c10d_functional.batch_p2p_ops _c10d_functional.irecv _c10d_functional.isend _dtensor.mesh_get_process_group
        aten._flash_attention_forward_no_dropout_inplace aten._philox_key_fold_in aten._philox_key_split
        aten._philox_normal aten._philox_uniform aten._upsample_lanczos2d_aa c10d.check_for_nan
        inductor_prims.inductor_reserve_rng_state streams.synchronize_device streams.synchronize_event
        streams.synchronize_stream symm_mem.nccl_reduce_scatter_offset torch_attn._varlen_attn_out
    """,
    "2.13": """
        aten._foreach_mm torch_nn._linear_cross_entropy_batch_chunked
        torch_nn._linear_cross_entropy_batch_chunked_no_reduction
    """,
    "2.14": """
        aten.linalg_matrix_sqrth aten.linalg_polar aten.shallow_copy_data_ c10d.gather_into_tensor_
        coor.current_device mempool.begin mempool.end symm_mem._low_contention_all_gather_ce_multicast
        symm_mem._low_contention_all_gather_ce_multicast_out symm_mem.memcpy_to_multicast_
        symm_mem.nccl_all_to_all_nd symm_mem.nccl_get_out symm_mem.nvshmem_get_out
    """,
    "2.15": """
        _c10d_functional.wait_tensors aten._cudnn_attention_forward_no_dropout_inplace aten._philox_randint
        aten._scaled_addmm coor.current_device_index fsdp.chunk_cat_mixed_dtype fsdp.record_grad_output_stream
    """,
}
# Rows for ops that newer releases no longer have, by the first one without them.
GONE_IN = {"2.14": "aten.cholesky"}
SINCE = {op: release for release, ops in NEW_IN.items() for op in ops.split()}
UNTIL = {op: release for release, ops in GONE_IN.items() for op in ops.split()}
INSTALLED_RELEASE = TorchVersion(torch.__version__)
pytestmark = pytest.mark.usefixtures("registered_ops")

# Where other libraries define theirs; a row can be checked where its library is installed.
LIBRARIES = {
    "torchvision": "torchvision",
    "image": "torchvision",
    "bitsandbytes": "bitsandbytes",
    "flash_attn": "flash_attn",
    "flashattn": "flash_attn",
    "pyg": "pyg_lib",
    "transformers": "transformers.integrations.moe",
}
INSTALLED = set()
for space, module in LIBRARIES.items():
    with suppress(ImportError):
        importlib.import_module(module)
        INSTALLED.add(space)
VIEW_TAGS = {torch.Tag.inplace_view, torch.Tag.view_copy}


def overloads(op: str) -> list[torch._ops.OpOverload]:
    """Return the overloads of an op by our name for it, none if this torch has no such op."""
    space, name = op.removesuffix("[sparse]").split(".")
    packet = getattr(getattr(torch.ops, space), name, None)
    if isinstance(packet, torch._ops.HigherOrderOperator):
        return [torch.ops.aten.mm.default]  # there, as one with no schema and no tags that could be looked at
    return [] if packet is None else [getattr(packet, each) for each in packet.overloads()]


def rotten(registry: Registry) -> list[str]:
    return [
        each.op
        for each in registry.entries()
        if not overloads(each.op)
        and TorchVersion(SINCE.get(each.op, "0")) <= INSTALLED_RELEASE < TorchVersion(UNTIL.get(each.op, "99"))
        and not absent_library(each.op)
    ]


def absent_library(op: str) -> bool:
    """Whether an op belongs to a library that is not installed here."""
    space = op.partition(".")[0]
    return space in LIBRARIES and space not in INSTALLED


def test_every_row_names_an_op_of_torch(registry: Registry) -> None:
    assert rotten(registry) == []


def test_the_check_of_the_rows_can_fail() -> None:
    registry = Registry()
    registry.free("aten.there_is_no_such_op", "aten.clone", "nowhere.clone")
    assert rotten(registry) == ["aten.there_is_no_such_op", "nowhere.clone"]


def test_rows_for_some_releases_are_rows(registry: Registry) -> None:
    assert SINCE.keys() | UNTIL.keys() <= {each.op for each in registry.entries()}


def test_the_lists_repeat_no_name() -> None:
    listed = [name for room in BUILT_IN for kind in ("FREE", "UNCOUNTED") for name in getattr(room, kind, ())]
    assert len(listed) == len(set(listed))
    # Long enough that an empty list would be seen.
    assert len(listed) > 300


def test_no_view_is_said_to_compute(registry: Registry) -> None:
    wrong = [
        each.op
        for each in registry.entries()
        if each.kind != "free" and any(func.is_view or VIEW_TAGS & set(func.tags) for func in overloads(each.op))
    ]
    assert wrong == []


def test_no_op_with_a_formula_is_elementwise_or_a_reduction(registry: Registry) -> None:
    wrong = [
        each.op
        for each in registry.entries()
        if each.kind == "counted"
        and any({torch.Tag.pointwise, torch.Tag.reduction} & set(func.tags) for func in overloads(each.op))
    ]
    assert wrong == []


@pytest.mark.parametrize(
    ("op", "kind"),
    [
        ("aten.mm", "counted"),
        ("aten.addmm_", "counted"),
        ("aten.convolution_backward", "counted"),
        ("aten.clone", "free"),
        ("aten.index_put_", "free"),
        ("aten._softmax", "uncounted"),
        ("aten._fft_r2c", "counted"),
        ("aten._cdist_forward", "counted"),
        # Told by its traits, or by the op that it is named after: not by a row.
        ("aten._foreach_add_", "unknown"),
        ("prims.mul", "unknown"),
        ("aten.rand", "unknown"),
    ],
)
def test_well_known_ops_have_their_kind(registry: Registry, op: str, kind: str) -> None:
    assert registry.kind(op, frozenset()) == kind
