"""Modules: the tables that nn.Module keeps, and the frame that calls hooks."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

from torch import nn

# torch.compile wraps a module in one that calls it so.
COMPILED = "_orig_mod"
# The function of torch.nn.modules.module that calls hooks, and its local variable with the keyword arguments.
CALLER, KEYWORDS = "inner", "kwargs"


def unwrapped(module: nn.Module) -> nn.Module:
    """Return the module that torch.compile wrapped, or the module itself."""
    inner: nn.Module = getattr(module, COMPILED, module)
    return inner


def children_of(module: nn.Module) -> dict[str, nn.Module | None]:
    """Return the parts of a module, those that are shared under each of their names."""
    return module._modules


def parameters_of(module: nn.Module) -> dict[str, nn.Parameter | None]:
    """Return a module's own parameters."""
    return module._parameters


def buffers_of(module: nn.Module) -> dict[str, Any]:
    """Return a module's own buffers."""
    return module._buffers


def hooks_of(module: nn.Module) -> tuple[dict[int, Any], dict[int, Any]]:
    """Return the tables of a module's forward hooks, those after and those before."""
    return module._forward_hooks, module._forward_pre_hooks


def keywords_of_call() -> dict[str, Any] | None:
    """Return the keyword arguments of the call that a global forward pre-hook reports; None if they cannot be read.

    Global hooks are not given keyword arguments; the frame of torch that calls them has them.
    """
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        if frame.f_code.co_name == CALLER and frame.f_globals.get("__name__") == nn.Module.__module__:
            found = frame.f_locals.get(KEYWORDS)
            return dict(found) if isinstance(found, dict) else None
        frame = frame.f_back
    return None
