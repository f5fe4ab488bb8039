"""Ops, dispatch modes and dispatch keys."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch._ops import HigherOrderOperator, OpOverload, OpOverloadPacket, _len_torch_dispatch_stack_pre_dispatch
from torch.utils import _python_dispatch as modes
from torch.utils._python_dispatch import TorchDispatchMode, is_traceable_wrapper_subclass

# Frames of this module lie between those of the user: pytest leaves them out of tracebacks.
__tracebackhide__ = True

__all__ = [
    "COMPOSITE",
    "DENSE",
    "HigherOrderOperator",
    "OpOverload",
    "OpOverloadPacket",
    "TorchDispatchMode",
    "current_mode",
    "decomposed",
    "decomposes",
    "destroy",
    "disable_current_modes",
    "dispatch_keys",
    "has_kernel",
    "is_infrastructure",
    "is_recording",
    "is_traceable_wrapper_subclass",
    "mode_stack",
    "packet_name",
    "packet_of",
    "pop_mode",
    "push_mode",
    "schema_of",
    "without_torch_function",
]

disable_current_modes = modes._disable_current_modes
current_mode = modes._get_current_dispatch_mode
mode_stack = modes._get_current_dispatch_mode_stack
pop_mode = modes._pop_mode
push_mode = modes._push_mode
COMPOSITE = torch._C.DispatchKey.CompositeImplicitAutograd
DENSE = torch._C.DispatchKey.CompositeExplicitAutograd
dispatch_keys: Callable[[torch.Tensor], Any] = torch._C._dispatch_keys
# Whether an op's name has a kernel of its own under a dispatch key.
has_kernel: Callable[[str, Any], bool] = torch._C._dispatch_has_kernel_for_dispatch_key
without_torch_function = torch._C.DisableTorchFunction

_INFRASTRUCTURE = "_mode_key"
_get_mode = torch._C._get_dispatch_mode
_PROXY = torch._C._TorchDispatchModeKey.PROXY


def is_infrastructure(mode: Any) -> bool:
    """Whether a mode, or a tensor's class, is torch's own, such as fake tensors and functional ones."""
    return hasattr(mode, _INFRASTRUCTURE)


def is_recording() -> bool:
    """Whether make_fx, which torch.export uses too, writes each op call of this thread into a graph."""
    return _get_mode(_PROXY) is not None or _len_torch_dispatch_stack_pre_dispatch() > 0


def schema_of(op: OpOverload) -> Any:
    """Return the schema of an op: its name, arguments and returns."""
    return op._schema


def decomposes(op: OpOverload) -> bool:
    """Whether an op can be taken apart into others."""
    return bool(op._can_decompose())


def decomposed(op: OpOverload, *args: Any, **kwargs: Any) -> Any:
    """Call an op as the ops that it is composed of."""
    return op._op_dk(COMPOSITE, *args, **kwargs)


def packet_of(op: OpOverload) -> Any:
    """Return what the overloads of an op share."""
    return op._overloadpacket


def packet_name(packet: Any) -> str:
    """Return the name of an op without its overload, such as ``aten::mm``."""
    return str(packet._qualified_op_name)


def destroy(library: torch.library.Library) -> None:
    """Take back the kernels that a library registered."""
    library._destroy()
