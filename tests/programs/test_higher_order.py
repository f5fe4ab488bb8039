"""Every higher-order op of torch gives with the watch what it gives without it: outputs, gradients and their graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._higher_order_ops.associative_scan import associative_scan
from torch._higher_order_ops.invoke_subgraph import mark_compile_region
from torch._higher_order_ops.map import map as map_rows
from torch._higher_order_ops.out_dtype import out_dtype
from torch._higher_order_ops.scan import scan
from torch._higher_order_ops.strict_mode import strict_mode
from torch._higher_order_ops.while_loop import while_loop
from torch._ops import _higher_order_ops
from torch.nn.attention.flex_attention import flex_attention

from pytest_flopguard.core.measurement import FlopTally

Count = Callable[[Callable[[], Any]], FlopTally]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile"),
]


class Layers(nn.Module):
    """Weights that the functions of a higher-order op close over."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(8, 8, bias=False), nn.Linear(8, 8, bias=False)
        self.bias = nn.Parameter(torch.randn(2, 8, 8))


def cond(m: Layers, x: Tensor) -> Any:
    return torch.cond(x.sum() > 0, lambda a: m.first(a), lambda a: m.second(a).sin(), (x,))


def nested_cond(m: Layers, x: Tensor) -> Any:
    def outer(a: Tensor) -> Any:
        return torch.cond(a.mean() > 9, lambda b: m.first(b), lambda b: m.second(b), (a,))

    return torch.cond(x.sum() > 0, outer, lambda a: a * 1.0, (x,))


def looped(m: Layers, x: Tensor) -> Any:
    with torch.no_grad():
        found = while_loop(lambda i, a: i < 3, lambda i, a: (i + 1, m.first(a)), (torch.tensor(0), x.detach()))[1]
    return m.second(found)


def mapped(m: Layers, x: Tensor) -> Any:
    return map_rows(lambda row, w: row @ w, x, m.first.weight)


def scanned(m: Layers, x: Tensor) -> Any:
    return scan(lambda c, row: (c @ m.first.weight + row, c * 1.0), torch.zeros(8), x)[1]


def scanned_in_pairs(m: Layers, x: Tensor) -> Any:
    return associative_scan(lambda a, b: a * b, m.first(x), dim=0, combine_mode="generic")


def flex(m: Layers, x: Tensor) -> Any:
    q = x.detach()[:4].reshape(1, 2, 8, 2)  # on a CPU torch gives gradients to what is captured only
    return flex_attention(q, q, q, score_mod=lambda s, b, h, i, j: s + m.bias[h, i, j])


def strict(m: Layers, x: Tensor) -> Any:
    with torch.no_grad():
        found = strict_mode(lambda a: (a @ a.mT,), (x.detach(),))
    return m.first(x) + found[0].sum()


def region(m: Layers, x: Tensor) -> Any:
    return mark_compile_region(lambda a, w: torch.sin(a @ w))(x, m.first.weight)


def wider(m: Layers, x: Tensor) -> Any:
    with torch.no_grad():
        found = out_dtype(torch.ops.aten.mm.default, torch.int32, *(torch.ones(4, 4, dtype=torch.int8),) * 2)
    return m.first(x) + found.sum()


def checkpointed(m: Layers, x: Tensor) -> Any:
    return torch.utils.checkpoint.checkpoint(lambda a: m.second(m.first(a).relu()), x, use_reentrant=False)


def switched(m: Layers, x: Tensor) -> Any:
    from torch._higher_order_ops import switch

    with torch.no_grad():
        found = switch(torch.tensor(1), [lambda a: a @ a.mT, lambda a: (a @ a.mT) @ (a @ a.mT)], (x.detach(),))
    return m.first(x) + found.sum()


PROGRAMS = {
    "cond": cond,
    "nested cond": nested_cond,
    "while_loop": looped,
    "map_impl": mapped,
    "scan": scanned,
    "associative_scan": scanned_in_pairs,
    "flex_attention": flex,
    "strict_mode": strict,
    "invoke_subgraph": region,
    "out_dtype": wider,
    "checkpoint": checkpointed,
}
if "switch" in _higher_order_ops:  # from torch 2.15 on
    PROGRAMS["switch"] = switched
COMPILED = "only torch.compile puts it into a graph, and compiled functions run as written while a test is counted"
EXPORTED = "only torch.export or the lowering to another runtime puts it into a graph"
NOT_TRIED = {
    "_export_tracepoint": EXPORTED,
    "control_deps": COMPILED,
    "custom_function_call": "torch.func runs every autograd.Function through it: tests/programs/test_transforms.py",
    "flex_gemm": COMPILED,
    "graphsafe_run_with_rng_state": COMPILED,
    "inline_asm_elementwise": "it runs on CUDA only",
    "invoke_leaf_function": COMPILED,
    "local_map_hop": COMPILED,
    "run_dtensor_rng_op": "it needs a mesh of devices",
    "trace_wrapped": "compiled autograd puts it into a graph",
    "while_loop_stack_output": "the backward of while_loop runs it, which torch.compile puts into a graph",
    "_foreach_map": COMPILED,
    "aoti_call_delegate": EXPORTED,
    "auto_functionalized": COMPILED,
    "auto_functionalized_v2": COMPILED,
    "autograd_function_apply": COMPILED,
    "call_torchbind": "it calls a class that is written in C++, of which a CPU build of torch has none to try",
    "dynamo_bypassing_wrapper": COMPILED,
    "executorch_call_delegate": EXPORTED,
    "flat_apply": EXPORTED,
    "flex_attention_backward": "the backward of flex_attention runs it",
    "foreach_map": COMPILED,
    "hints_wrapper": COMPILED,
    "inductor_compiled_code": COMPILED,
    "invoke_quant": COMPILED,
    "invoke_quant_packed": COMPILED,
    "print": "it prints",
    "run_and_save_rng_state": COMPILED,
    "run_const_graph": EXPORTED,
    "run_with_rng_state": COMPILED,
    "tag_activation_checkpoint": COMPILED,
    "trampoline_autograd_apply": COMPILED,
    "triton_kernel_wrapper_functional": "a CPU build of torch has no Triton",
    "triton_kernel_wrapper_mutation": "a CPU build of torch has no Triton",
    "with_effects": COMPILED,
    "wrap": COMPILED,
    "wrap_activation_checkpoint": COMPILED,
    "wrap_with_autocast": EXPORTED,
    "wrap_with_set_grad_enabled": EXPORTED,
}


def run(program: Callable[[Layers, Tensor], Any]) -> dict[str, Any]:
    model = Layers()
    x = torch.linspace(0.1, 1.7, 16 * 8).view(16, 8).requires_grad_()
    out = program(model, x)
    loss = out.pow(2).sum()
    loss.backward()
    return {
        "out": out.detach(),
        "type": type(out),
        "graph": type(out.grad_fn).__name__,
        "x": x.grad,
        **{name: each.grad for name, each in model.named_parameters()},
    }


@pytest.mark.parametrize("name", PROGRAMS)
def test_it_gives_the_same_watched(count: Count, name: str) -> None:
    alone = run(PROGRAMS[name])
    found: list[dict[str, Any]] = []
    tally = count(lambda: found.append(run(PROGRAMS[name])))
    assert tally.at_least > 0
    assert tally.unknown_ops == ()
    assert {key: value is None for key, value in found[0].items()} == {k: v is None for k, v in alone.items()}
    for key, value in alone.items():
        if isinstance(value, Tensor):
            torch.testing.assert_close(found[0][key], value, rtol=0, atol=0)
        else:
            assert found[0][key] == value


def test_every_higher_order_op_of_torch_is_tried_or_named() -> None:
    registered = set(_higher_order_ops)
    assert {"cond", "scan"} <= registered
    # Other releases of torch register fewer, and tests make ops of their own.
    assert sorted(registered - set(PROGRAMS) - set(NOT_TRIED)) == []
