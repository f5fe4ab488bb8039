"""fvcore as a second opinion: the forward FLOPs of one model call, read from a torch.jit trace.

It shares nothing with the dispatch counter: ops are named above autograd, before torch takes them apart, and a
trace is walked, not a run watched. What fvcore does not count is carried as unknown, unless the cost model knows
that the op is free or uncounted.

A trace has no phases: what a model's own forward call differentiates (``torch.autograd.grad``) is counted as
forward. Module hooks turn off the fused inference paths of nn.Transformer while tracing; their FLOPs are the same.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from pytest_flopguard.backends.base import CostModel, Unavailable
from pytest_flopguard.backends.jit_trace import TracedCall, TracedOp
from pytest_flopguard.backends.stand_in_state import stand_in_state
from pytest_flopguard.core.measurement import FlopTally, Kind, OpCount, UnknownOp

# What is raised when a model that runs cannot be traced: by torch's tracer RuntimeError, SystemError, TypeError and
# ValueError; by code that meets a traced value where it wants a number, or a hidden op's result, the others.
_UNTRACEABLE = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RuntimeError,
    SystemError,
    TypeError,
    ValueError,
)


class FvcoreTracer:
    """The ModelTracer over fvcore; fvcore counts multiply-adds, this gives FLOPs."""

    name = "fvcore"

    def __init__(self, costs: CostModel) -> None:
        self._costs = costs

    def trace(self, model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> FlopTally | Unavailable:
        """Count ``model(*args, **kwargs)``; Unavailable, with the reason, where the model cannot be traced.

        The call runs once more than the test's own, on copies of the inputs and buffers.
        """
        reason = _unfit(model)
        if reason is not None:
            return self._unavailable(reason)
        try:
            call = TracedCall(model, args, kwargs)
            with stand_in_state(model, call.tensors):
                ops = call.ops(self._costs)
        except _UNTRACEABLE as error:
            told = str(error).strip().partition("\n")[0]
            return self._unavailable(f"the model cannot be traced by torch.jit: {type(error).__name__}: {told}")
        return self._tally(ops, type(model).__name__)

    def _unavailable(self, reason: str) -> Unavailable:
        return Unavailable(name=self.name, reason=reason)

    def _tally(self, ops: list[TracedOp], root: str) -> FlopTally:
        calls: Counter[tuple[str, str]] = Counter()
        flops: Counter[tuple[str, str]] = Counter()
        plain: Counter[tuple[str, Kind]] = Counter()
        unknown: Counter[tuple[str, str, str, str]] = Counter()
        for each in ops:
            module = f"{root}.{each.module}" if each.module else root
            if each.flops is None:
                unknown[each.op, module, each.call, each.reason] += 1
            elif each.kind == "counted":
                calls[each.op, module] += 1
                flops[each.op, module] += each.flops
            else:
                plain[each.op, each.kind] += 1
        counted = (
            OpCount(op=op, module=module, phase="forward", kind="counted", calls=number, flops=flops[op, module])
            for (op, module), number in calls.items()
        )
        rest = (
            OpCount(op=op, module="", phase="forward", kind=kind, calls=number, flops=0)
            for (op, kind), number in plain.items()
        )
        unknown_ops = (
            UnknownOp(op=op, call=call, module=module, phase="forward", calls=number, reason=reason)
            for (op, module, call, reason), number in unknown.items()
        )
        return FlopTally(engine=self.name, counts=(*counted, *rest), unknown_ops=tuple(unknown_ops))


def _unfit(model: Any) -> str | None:
    """Return why a model is not even tried."""
    if not isinstance(model, nn.Module):
        return f"it traces an nn.Module, and this is a {type(model).__name__}"
    for path, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            return f"the module {path!r} is scripted, and a trace does not hold the ops inside"
    if any(is_lazy(each) for each in (*model.parameters(), *model.buffers())):
        return "the model has lazy parameters, which its first call makes: call it once before"
    return None
