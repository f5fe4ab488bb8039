"""One traced call of a model: its op nodes with their modules and FLOPs, walked by fvcore."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.utils._pytree import tree_flatten, tree_unflatten

from pytest_flopguard.backends.base import CostModel
from pytest_flopguard.backends.jit_names import kind_of
from pytest_flopguard.backends.jit_products import HANDLES, Handle, NoShape, shape_of
from pytest_flopguard.backends.torch_api.jit import tracing
from pytest_flopguard.core.measurement import Kind

with warnings.catch_warnings():
    # Importing fvcore compiles functions through torch.jit.script, which torch calls deprecated.
    warnings.simplefilter("ignore")
    from fvcore.nn import FlopCountAnalysis

# prim:: nodes make and rename values, except for those that run code which fvcore does not look into.
_HIDING = {
    "prim::CallFunction": "a scripted function: the trace does not hold the ops inside",
    "prim::CallMethod": "a scripted module: the trace does not hold the ops inside",
    "prim::If": "a scripted branch: the trace does not tell which side runs",
    "prim::Loop": "a scripted loop: the trace does not tell how often it runs",
    "prim::PythonOp": "a torch.autograd.Function may run kernels that no trace shows; its ATen ops are counted",
    "prim::fork": "a forked function: fvcore does not look at the ops inside",
}
_SCOPE = "prim::TracedModuleForward"


class TracedOp(NamedTuple):
    """One node of the trace; ``flops`` is None for an unknown one, whose ``call`` and ``reason`` then tell why."""

    op: str
    module: str
    kind: Kind
    flops: int | None = 0
    call: str = ""
    reason: str = ""


class TracedCall(nn.Module):
    """A model with the arguments of one call. Its own inputs are the tensors among them, each once.

    torch.jit traces positional tensors only and drops ops whose results are not returned; keyword arguments, plain
    values, outputs of any type and dead code are all kept by calling the model from inside a module of ours.
    """

    def __init__(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        super().__init__()
        self.model = model
        leaves, self._structure = tree_flatten((args, kwargs))
        # A tensor that is passed twice stays one: nn.MultiheadAttention asks whether query is key.
        tensors = {id(leaf): leaf for leaf in leaves if isinstance(leaf, torch.Tensor)}
        # The model may write to its inputs; the copies are dropped.
        self.tensors = tuple(each.detach().clone().requires_grad_(each.requires_grad) for each in tensors.values())
        self._places = [list(tensors).index(id(leaf)) if id(leaf) in tensors else None for leaf in leaves]
        self._leaves = [None if id(leaf) in tensors else leaf for leaf in leaves]

    def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
        """Call the model and declare every value of the trace an output."""
        pairs = zip(self._places, self._leaves, strict=True)
        args, kwargs = tree_unflatten(
            [leaf if place is None else tensors[place] for place, leaf in pairs], self._structure
        )
        self.model(*args, **kwargs)
        graph = tracing().graph()
        for value in list(_values(graph)):
            graph.registerOutput(value)
        # The tracer refuses an output that it did not see made.
        return torch.zeros(())

    def ops(self, costs: CostModel) -> list[TracedOp]:
        """Trace the call; raises what the model, torch's tracer or fvcore raise."""
        analysis = _Analysis(self, costs)
        analysis.total()
        *found, _output = analysis.found
        return found


def _values(block: Any) -> Iterator[Any]:
    """All values that ops of a graph or block made so far; modules that ran are blocks inside."""
    for node in block.nodes():
        if node.kind() == _SCOPE:
            for inner in node.blocks():
                yield from _values(inner)
        elif node.kind() in _HIDING or not node.kind().startswith("prim::"):
            yield from node.outputs()


class _Analysis(FlopCountAnalysis):  # type: ignore[misc] # fvcore is untyped
    """fvcore's analysis with handles for products only, that notes every op it meets."""

    def __init__(self, call: TracedCall, costs: CostModel) -> None:
        super().__init__(call, call.tensors)
        self.found: list[TracedOp] = []
        self._costs = costs
        self._kinds: dict[str, Kind] = {}
        self.tracer_warnings("none").unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        # fvcore's own handles for norms, pooling and upsampling count what our convention leaves out.
        self.clear_op_handles()
        self.set_op_handle(**{kind: partial(self._count, handle) for kind, handle in HANDLES.items()})

    def _count(self, handle: Handle, inputs: list[Any], outputs: list[Any]) -> int:
        node = outputs[0].node()
        name, module = _name(node), _module(node)
        try:
            shape_of(outputs[0])
            # A complex multiply-add is 4 real multiplications and 4 real additions.
            flops = handle(inputs, outputs) * (8 if outputs[0].type().dtype().is_complex else 2)
        except NoShape as reason:
            self.found.append(TracedOp(name, module, "unknown", None, _describe(name, inputs), str(reason)))
            return 0
        self.found.append(TracedOp(name, module, "counted", flops))
        return flops

    def _should_ignore_node(self, node: Any) -> bool:
        """Note a node without a handle, here instead of in fvcore's list of unsupported ops."""
        kind = node.kind()
        if kind.startswith("prim::") and kind not in _HIDING:
            return True
        name = _name(node)
        if name not in self._kinds:
            self._kinds[name] = "unknown" if kind in _HIDING else kind_of(name, self._costs)
        if self._kinds[name] in ("free", "uncounted"):
            self.found.append(TracedOp(name, _module(node), self._kinds[name]))
        else:
            reason = _HIDING.get(kind, "fvcore has no handle for it")
            call = _describe(name, list(node.inputs()))
            self.found.append(TracedOp(name, _module(node), "unknown", None, call, reason))
        return True


def _name(node: Any) -> str:
    """``aten::mm`` -> ``aten.mm``; an autograd.Function is called by its class."""
    if node.kind() == "prim::PythonOp":
        return f"prim.PythonOp.{node.pyname()}"
    return str(node.kind()).replace("::", ".")


def _module(node: Any) -> str:
    """Path of the innermost module inside the traced model, "" for the model itself."""
    # Scopes are "/model/model.layers.0"; a hook of the model's own runs before its scope opens.
    path = str(node.scopeName()).rpartition("/")[2]
    return path.partition(".")[2]


def _describe(name: str, inputs: list[Any]) -> str:
    """Render a call for a person: ``aten.fft_rfft(float32[2, 8], None, -1)``."""
    return f"{name}({', '.join(map(_text, inputs))})"


def _text(value: Any) -> str:
    kind = value.type().kind()
    if kind == "TensorType":
        dtype = str(value.type().dtype()).removeprefix("torch.")
        sizes = value.type().sizes()
        return f"{dtype}[{'?' if sizes is None else ', '.join(map(str, sizes))}]"
    if value.node().kind() == "prim::ListConstruct":
        return f"[{', '.join(map(_text, value.node().inputs()))}]"
    if value.node().kind() == "prim::Constant" and kind != "FunctionType":
        return repr(value.toIValue())
    return str(kind).removesuffix("Type").lower()
