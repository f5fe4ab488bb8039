"""Modules of torch that are imported late or never, by name, and what is read of each."""

from __future__ import annotations

from typing import Any, Final

COMPILER: Final = "torch._dynamo"
# A function of the compiler's ``eval_frame``: each call of a compiled function calls it to learn what to run.
CALLBACK_FROM_STANCE: Final = "_callback_from_stance"
# Where torch compiles for itself: the modules that define the backends of captures, and of explain and export.
CAPTURES: Final = "torch._dynamo.backends.debugging"
RECORDS: Final = "torch._dynamo.eval_frame"
# Files from which torch calls what it has compiled to capture the functions of a higher-order op.
HIGHER_ORDER_FILES: Final = ("_higher_order_ops", "flex_attention.py")

# torch.export with strict=True reads the program's Python through the compiler, in this function.
EXPORT: Final = "torch.export._trace"
STRICT_EXPORT: Final = "_export_to_torch_ir"

# Modules that run programs on tensors without data, to record them by the way.
RECORDERS: Final = (
    "torch._functorch._aot_autograd",
    "torch._functorch.aot_autograd",
    "torch._higher_order_ops",
    "torch._inductor",
)
INDUCTOR_CODE: Final = "torch._inductor.output_code"
# A DTensor's decision how to shard a call.
SHARDING_PLANNER: Final = "torch.distributed.tensor._sharding_prop"

DEVICE_MESH: Final = "torch.distributed.device_mesh"
# Methods of DeviceMesh that read the numbers of ranks; a release has some of the private ones.
MESH_METHODS: Final = ("__init__", "__getitem__", "_flatten", "_unflatten", "_concatenate", "_get_all_submeshes")


def innermost_backend(callback: Any) -> Any:
    """Return the compiler's backend inside all that torch wraps around it."""
    while inner := getattr(callback, "_torchdynamo_orig_backend", None) or getattr(callback, "compiler_fn", None):
        callback = inner
    return callback
