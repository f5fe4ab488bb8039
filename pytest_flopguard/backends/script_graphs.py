"""Nodes of a TorchScript graph that do work without the dispatcher: its interpreter calls some kernels itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

# Nodes whose subgraph a fuser has compiled: none of its ops is dispatched.
_FUSED = {
    "prim::TensorExprGroup",
    "prim::TensorExprDynamicGroup",
    "prim::FusionGroup",
    "prim::CudaFusionGroup",
    "prim::oneDNNFusionGroup",
    "prim::MKLDNNGroup",
    "prim::StaticSubgraph",
}

# Nodes of the interpreter itself: values, control flow, and calls that are graphs of their own.
_NAMES = """
AutogradAdd AutogradAllNonZero AutogradAllZero AutogradAnyNonZero AutogradZero BailOut BailoutTemplate
BroadcastMKLDNNTensors BroadcastSizes ChunkSizes Constant ConstantChunk ConstantMKLDNNTensor CreateObject
DictConstruct DictIndex DifferentiableGraph Enter EnumName EnumValue Exit FallbackGraph FusedConcat GetAttr Guard If
ImplicitTensorToNum ListConstruct ListUnpack Load Loop MKLDNNClamp MKLDNNHardSigmoid MKLDNNHardSigmoid_
MKLDNNHardSwish MKLDNNHardSwish_ MKLDNNHardTanh MKLDNNHardTanh_ MKLDNNLayerNorm MKLDNNLayerNorm_ MKLDNNRelu6
MKLDNNRelu6_ MKLDNNScalarMul MKLDNNScalarMul_ MMBatchSide MMTreeReduce ModuleContainerIndex ModuleDictIndex
NumToTensor Param Print PythonOp RaiseException ReductionSizes RequiresGradCheck Return SetAttr Store StringIndex
TracedAttr TracedFork TracedModuleForward TupleConstruct TupleIndex TupleSlice TupleUnpack TypeCheck Uninitialized
VarConcat VarStack abs annotate awaitable awaitable_nowait awaitable_wait data device dtype fork get_device grad id
index is_cpu is_cuda is_ipu is_maia is_meta is_mkldnn is_mps is_mtia is_nested is_quantized is_sparse is_sparse_csr
is_vulkan is_xla is_xpu isinstance itemsize layout mT max min name names nbytes ndim non_zero onednn profile
profile_ivalue range rangelist requires_grad rpc_async rpc_remote rpc_sync shape size sort_key tolist type
unchecked_cast unchecked_unwrap_optional unsqueeze warn
"""
_PLAIN = frozenset(f"prim::{name}" for name in _NAMES.split())


def unheard(graph: Any, is_cheap: Callable[[str], bool]) -> Iterator[str]:
    """Yield the nodes of an optimized graph that do work out of hearing; ``is_cheap`` tells of an aten op's name."""
    yield from _unheard(graph, is_cheap, fused=False)


def _unheard(block: Any, is_cheap: Callable[[str], bool], *, fused: bool) -> Iterator[str]:
    for node in block.nodes():
        kind = node.kind()
        inside = fused or kind in _FUSED
        if node.hasAttribute("Subgraph"):
            yield from _unheard(node.g("Subgraph"), is_cheap, fused=inside)
        for each in node.blocks():
            yield from _unheard(each, is_cheap, fused=inside)
        if kind in _FUSED or kind in _PLAIN:
            continue
        if kind.startswith("prim::"):
            yield kind  # also a method of a class that is written in C++
        elif fused and not is_cheap(kind.replace("::", ".")):
            yield kind
