"""Every op that the installed torch registers: counted, free or uncounted, made of others, or listed with a reason.

A new release of torch is read here first: a failing test names the ops that it adds. An op without a row is unknown by
name for a user, which is safe. An op that counts as free although it computes would be a silent zero, so the ops that
a schema alone makes free are listed too, and test_op_db.py looks inside ops that are said to have no product.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase

import pytest
import torch
from torch._ops import OpOverload, _higher_order_ops

from pytest_flopguard.backends import op_traits
from pytest_flopguard.backends.known_op import KnownOp, learn
from pytest_flopguard.formulas.registry import Registry

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("registered_ops")]

# What op_traits.py concludes from a schema, and what from torch's own tags and aliases.
GUESSES = {"factory", "query", "random"}
TAGS = {"view", "view_copy", "inplace_view", "pointwise", "reduction"}

# Ops that are unknown by name, and why they have no row. A name may end in *.
WITHOUT_ROW = {
    "torch's own tests": "_inductor_test.* _test.* aten._foobar aten._test_* debugprims.load_tensor",
    "TorchScript's static runtime, which eager code never calls": "static_runtime.*",
    "what torch runs in place of an ATen op, below it: the ATen op is the one that is seen": "_native.*",
    "calls in code that Inductor wrote: compiled functions run as they were written while they are measured": """
        flex_gemm.* inductor._mm_plus_mm inductor.quack_symmetric_mm mkl._mkl_linear mkldnn._convolution_pointwise
        mkldnn._convolution_pointwise_ mkldnn._convolution_transpose_pointwise mkldnn._linear_pointwise
    """,
    "its packed weight does not say how many elements it stores": """
        mkldnn_prepacked.conv2d_run prepacked.* sparse.qlinear sparse.qlinear_dynamic sparse.qlinear_relu
        sparse.qlinear_relu_dynamic
    """,
    "a reference for export, whose kernel and masks depend on its attributes": "onnx.Attention",
    "a placeholder in an exported graph": "onnx_symbolic.*",
}

# Higher-order ops that are unknown by name. Those in control_flow.FOLLOWED are looked into.
HIGHER_ORDER_WITHOUT_ROW = {
    "functions that it runs out of sight: what they call is not seen": """
        associative_scan autograd_function_apply custom_function_call flat_apply foreach_map hints_wrapper
        invoke_leaf_function invoke_quant invoke_quant_packed invoke_subgraph local_map_hop map_impl out_dtype scan
        strict_mode switch while_loop_stack_output wrap wrap_with_autocast wrap_with_set_grad_enabled
    """,
    "only graphs that torch.compile or torch.export made call it": """
        _export_tracepoint aoti_call_delegate auto_functionalized auto_functionalized_v2 call_torchbind
        dynamo_bypassing_wrapper executorch_call_delegate flex_gemm graphsafe_run_with_rng_state
        inductor_compiled_code inline_asm_elementwise print run_and_save_rng_state run_const_graph
        run_dtensor_rng_op run_with_rng_state tag_activation_checkpoint trace_wrapped
        triton_kernel_wrapper_functional triton_kernel_wrapper_mutation with_effects wrap_activation_checkpoint
    """,
}

# Ops without a row that their schema alone makes free: no tensor goes in, none comes out, or random numbers are drawn
# for one tensor. Each was read, and none computes a product.
FREE_BY_SCHEMA = """
aten._assert_async aten._assert_scalar aten._assert_tensor_metadata aten._cudnn_init_dropout_state aten._dimI
aten._dimV aten._efficientzerotensor aten._empty_affine_quantized aten._fill_mem_eff_dropout_mask_
aten._fused_sdp_choice aten._has_same_storage_numel aten._linalg_check_errors aten._local_scalar_dense
aten._make_dep_token aten._nested_get_ragged_idx aten._nested_tensor_from_mask_left_aligned aten._nnz aten._print
aten._sample_dirichlet aten._sparse_compressed_tensor_with_dims aten._standard_gamma aten._use_cudnn_ctc_loss
aten._use_miopen_ctc_loss aten._validate_compressed_sparse_indices aten.allclose aten.arange aten.bartlett_window
aten.blackman_window aten.cauchy aten.cauchy_ aten.dense_dim aten.empty aten.empty_permuted aten.empty_strided
aten.exponential aten.exponential_ aten.eye aten.fft_fftfreq aten.fft_rfftfreq aten.from_file aten.full aten.geometric
aten.geometric_ aten.hamming_window aten.hann_window aten.is_coalesced aten.is_pinned aten.is_same_size aten.is_set_to
aten.kaiser_window aten.log_normal aten.log_normal_ aten.multinomial aten.normal_functional aten.ones aten.poisson
aten.q_per_channel_axis aten.q_scale aten.q_zero_point aten.qscheme aten.rand aten.rand_like aten.randint aten.randn
aten.randn_like aten.random aten.random_ aten.randperm aten.range aten.scalar_tensor aten.sparse_dim
aten.sym_constrain_range aten.sym_constrain_range_for_size aten.tril_indices aten.triu_indices aten.uniform
aten.uniform_ aten.zeros prims._make_token prims._sink_tokens prims.empty prims.empty_permuted prims.empty_strided
prims.full prims.inductor_rand_eager_offset prims.inductor_rand_eager_offsets prims.inductor_seed prims.inductor_seeds
prims.iota prims.item prims.normal prims.scalar_tensor prims.uniform
"""


def overloads() -> Iterator[tuple[str, OpOverload]]:
    """Yield every op that can be dispatched, by our name of it. Some are TorchScript's alone, and those cannot."""
    for full in sorted(torch._C._dispatch_get_all_op_names()):
        space, _, name = full.partition("::")
        base, _, overload = name.partition(".")
        packet = getattr(getattr(torch.ops, space), base, None)
        # A name can be registered that torch.ops does not lead to: then nothing can call it either.
        if packet is not None:
            yield f"{space}.{base}", getattr(packet, overload or "default")


def learned(registry: Registry) -> Iterator[tuple[str, OpOverload, KnownOp]]:
    for name, func in overloads():
        yield name, func, learn(func, registry)


@pytest.fixture(scope="module")
def ops(registry: Registry, registered_ops: None) -> list[tuple[str, OpOverload, KnownOp]]:
    """Every overload with its name and what the built-in rows make of it."""
    return list(learned(registry))


def listed(lists: dict[str, str]) -> list[str]:
    return [name for names in lists.values() for name in names.split()]


def without_row(ops: Iterable[tuple[str, OpOverload, KnownOp]]) -> list[str]:
    """Return the ops that are unknown to a user and that no reason is given for."""
    unknown = {name for name, _, known in ops if known.kind == "unknown" and not known.decomposes}
    return sorted(name for name in unknown if not has_reason(name))


def has_reason(name: str) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in listed(WITHOUT_ROW))


def test_every_op_of_torch_has_a_row_or_a_reason(ops: list[tuple[str, OpOverload, KnownOp]]) -> None:
    new = without_row(ops)
    assert new == [], f"torch {torch.__version__} has {len(new)} ops without a row: {' '.join(new)}"


def test_an_op_without_a_row_is_named(registry: Registry) -> None:
    bare = Registry()
    for entry in registry.entries():
        if entry.op not in ("aten.convolution", "fsdp.chunk_cat"):
            bare._add(entry)
    assert without_row(learned(bare)) == ["aten.convolution", "fsdp.chunk_cat"]


def test_no_reason_is_given_for_an_op_that_has_a_row(registry: Registry) -> None:
    rows = {entry.op for entry in registry.entries()}
    assert sorted(rows.intersection(listed(WITHOUT_ROW))) == []


def test_every_higher_order_op_has_a_row_or_a_reason(registry: Registry) -> None:
    known = {name: learn(op, registry) for name, op in _higher_order_ops.items()}
    unknown = {name for name, op in known.items() if op.kind == "unknown" and not op.flow}
    new = sorted(unknown - set(listed(HIGHER_ORDER_WITHOUT_ROW)))
    assert new == [], f"torch {torch.__version__} has {len(new)} higher-order ops without a row: {' '.join(new)}"


def free_by_schema(ops: Iterable[tuple[str, OpOverload, KnownOp]], rows: set[str]) -> set[str]:
    """Return what neither a row nor a tag of torch makes free."""
    found = set()
    for name, func, known in ops:
        traits = op_traits.traits(func)
        composite = torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "CompositeImplicitAutograd")
        row = name in rows or name.removesuffix("_") in rows
        if known.kind == "free" and not row and not composite and traits & GUESSES and not traits & TAGS:
            found.add(name)
    return found


def test_what_a_schema_alone_makes_free_was_read(
    ops: list[tuple[str, OpOverload, KnownOp]], registry: Registry
) -> None:
    found = free_by_schema(ops, {entry.op for entry in registry.entries()})
    new = sorted(name for name in found - set(FREE_BY_SCHEMA.split()) if not has_reason(name))
    assert new == [], f"torch {torch.__version__}: a row for those that compute, else FREE_BY_SCHEMA: {' '.join(new)}"
