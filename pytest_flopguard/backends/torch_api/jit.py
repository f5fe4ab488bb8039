"""TorchScript, ``torch.jit.trace`` and the classes through which programs run that were compiled before."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import torch

set_tracing: Callable[[Any], None] = torch._C._set_tracing_state  # type: ignore[attr-defined]
tracing: Callable[[], Any] = torch._C._get_tracing_state  # None where nothing is traced

# The module and the class whose functions run a program and trace it, for torch.jit.trace and the ONNX exporter.
NATIVE: Final[Any] = torch._C
SCRIPT_MODULE: Final[Any] = torch._C.ScriptModule
GRAPH_TRACER: Final = "_create_graph_by_tracing"
TRACERS: Final = ("_create_function_from_trace", "_create_function_from_trace_with_dict", GRAPH_TRACER)
METHOD_TRACERS: Final = ("_create_method_from_trace", "_create_method_from_trace_with_dict")

# Every call of TorchScript from Python is a call of one of these.
SCRIPT_METHOD: Final[Any] = torch._C.ScriptMethod
PROGRAMS: Final[tuple[Any, ...]] = (torch._C.ScriptFunction, SCRIPT_METHOD)
STATIC_MODULE: Final[Any] = getattr(torch._C, "StaticModule", None)
# What runs a package of AOTInductor.
PACKAGES: Final[tuple[Any, ...]] = tuple(
    kind
    for name, kind in vars(torch._C._aoti).items()
    if name == "AOTIModelPackageLoader" or name.startswith("AOTIModelContainerRunner")
)

# The graph that this thread's interpreter ran last, as it was optimized; None if it ran none.
last_executed: Callable[[], Any] = torch._C._last_executed_optimized_graph
inline: Callable[[Any], None] = torch._C._jit_pass_inline
parse_schema: Callable[[str], Any] = torch._C.parse_schema


def graph_of_method(module: Any, name: str) -> Any:
    """Return the graph of a method of a script module."""
    return module._get_method(name).graph
