"""Our op formulas against torch's own (``torch.utils.flop_counter``): every disagreement is listed, a new one fails."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.flop_counter import flop_registry

from pytest_flopguard.core.measurement import Cost, OpCall
from pytest_flopguard.core.tensors import TensorSpec
from pytest_flopguard.formulas.registry import Registry, default_registry

# torch's formulas change from version to version, and the list below is of the newest.
pytestmark = pytest.mark.skipif(
    tuple(map(int, torch.__version__.split(".")[:2])) < (2, 13), reason="lists the disagreements since torch 2.13"
)

REGISTRY = default_registry()
SIZE = st.integers(0, 5)
SOME = st.integers(1, 4)
DTYPE = st.sampled_from([torch.float32, torch.bfloat16, torch.complex64])


@dataclass(frozen=True)
class Call:
    """An op call on meta tensors, with its result."""

    op: str
    args: tuple[Any, ...]
    out: Any

    def ours(self) -> Cost:
        args = tuple(_spec(each) for each in self.args)
        return REGISTRY.cost(OpCall(op=self.op, args=args, out=_spec(self.out)))

    def torchs(self) -> int:
        return int(flop_registry[getattr(torch.ops.aten, self.op[5:])](*self.args, out_val=self.out))


def _spec(value: Any) -> Any:
    if isinstance(value, Tensor):
        return TensorSpec(tuple(value.shape), str(value.dtype).removeprefix("torch."))
    return tuple(map(_spec, value)) if isinstance(value, tuple) else value


@dataclass(frozen=True)
class Known:
    """A disagreement: where it shows, what torch says there given our count, and why ours is right."""

    why: str
    where: Callable[[Call], bool]
    torchs: Callable[[Call, Cost], int | None]


def _grouped(call: Call) -> int:
    *_, groups, mask = call.args
    once = (call.ours().flops or 0) // sum(mask[:2]) if any(mask[:2]) else 0
    return int(once * (mask[0] + groups * mask[1]))


def _heads_first(call: Call, recomputes: bool) -> int | None:
    q, _, v = call.args[recomputes : recomputes + 3]
    batch, queries, heads, d = q.shape
    _, keys, kv_heads, d_v = v.shape
    if queries % keys:
        return None  # torch asserts that query heads are a multiple of the others
    pair = 2 * batch * queries * heads * kv_heads
    return int(pair * (3 * d + 2 * d_v) if recomputes else pair * (d + d_v))


# torch 2.14 corrected its formula of the first, forward and backward.
RELEASE = tuple(map(int, torch.__version__.split(".")[:2]))
HEADS_LAST = ("aten._efficient_attention_forward", *(["aten._flash_attention_forward"] if RELEASE < (2, 14) else []))
KNOWN = [
    Known(
        "a complex multiply-add is 4 multiplications and 4 additions, not one of each",
        lambda call: call.args[0].is_complex(),
        lambda call, ours: (ours.flops or 0) // 4,
    ),
    Known(
        "the weight gradient of a grouped convolution pairs channels of one group only; torch pairs all of them",
        lambda call: call.op == "aten.convolution_backward" and call.args[-2] > 1 and call.args[-1][1],
        lambda call, ours: _grouped(call),
    ),
    Known(
        "these kernels have positions before heads; torch reads them the other way round",
        lambda call: call.op.replace("backward", "forward") in HEADS_LAST,
        lambda call, ours: _heads_first(call, recomputes=call.op.endswith("backward")),
    ),
    Known(
        "a fused backward computes the scores once more inside; we tell that apart, as no other kernel does it",
        lambda call: "attention" in call.op and call.op.endswith("_backward"),
        lambda call, ours: (ours.flops or 0) + ours.kernel_recompute,
    ),
    Known(
        "torch takes cuDNN's benchmark flag for the one that says transposed",
        lambda call: call.op == "aten.cudnn_convolution" and call.args[6],
        lambda call, ours: (ours.flops or 0) // call.out.shape[2:].numel() * call.args[0].shape[2:].numel(),
    ),
    Known(
        "torch's formula does not take the arguments of this op",
        lambda call: call.op == "aten._slow_conv2d_forward",
        lambda call, ours: None,
    ),
]
# Ops that torch has a formula for and we have not.
LACKING = {
    "flex_attention": "not an ATen op: the mask is a function, and how much of it is skipped is not in the shapes",
    "flex_attention_backward": "as flex_attention",
}


def meta(dtype: torch.dtype, *shape: int) -> Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")


@st.composite
def products(draw: Any) -> list[Call]:
    dtype, batch, m, k, n = draw(DTYPE), *(draw(SIZE) for _ in range(4))
    a, b, flat_a, flat_b = meta(dtype, batch, m, k), meta(dtype, batch, k, n), meta(dtype, m, k), meta(dtype, k, n)
    bias, many, scale = meta(dtype, n), meta(dtype, batch, m, n), meta(torch.float32, 1)
    return [
        Call("aten.mm", (flat_a, flat_b), flat_a @ flat_b),
        Call("aten.addmm", (bias, flat_a, flat_b), flat_a @ flat_b),
        Call("aten.bmm", (a, b), a @ b),
        Call("aten.baddbmm", (many, a, b), many),
        Call("aten._scaled_mm", (flat_a, flat_b, scale, scale), flat_a @ flat_b),
    ]


@st.composite
def convolutions(draw: Any) -> list[Call]:
    dims, groups, transposed = draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.booleans())
    batch, per_in, per_out = draw(SOME), draw(SOME), draw(SOME)
    dtype = torch.float32
    kernel, stride, dilation = ([draw(st.integers(1, 3)) for _ in range(dims)] for _ in range(3))
    padding = [draw(st.integers(0, 1)) for _ in range(dims)]
    size = [draw(SOME) + (k - 1) * d + 2 for k, d in zip(kernel, dilation, strict=True)]
    x = meta(dtype, batch, per_in * groups, *size)
    ends = (per_in * groups, per_out) if transposed else (per_out * groups, per_in)
    weight = meta(dtype, *ends, *kernel)
    options = (stride, padding, dilation, transposed, [0] * dims, groups)
    out = torch.ops.aten.convolution(x, weight, None, *options)
    mask = [draw(st.booleans()), draw(st.booleans()), False]
    grads = (x if mask[0] else None, weight if mask[1] else None, None)
    calls = [
        Call("aten.convolution", (x, weight, None, *options), out),
        Call("aten.convolution_overrideable", (x, weight, None, *options), out),
        Call("aten._convolution", (x, weight, None, *options, False, False, True, True), out),
        Call("aten.convolution_backward", (out, x, weight, None, *options, mask), grads),
    ]
    if not transposed:
        cudnn = (x, weight, padding, stride, dilation, groups, draw(st.booleans()), False, True)
        calls.append(Call("aten.cudnn_convolution", cudnn, out))
    flat, kernels = meta(dtype, batch, per_in, draw(SOME) + 2, draw(SOME) + 2), meta(dtype, per_out, per_in, 3, 2)
    slow_out = torch.ops.aten.convolution(flat, kernels, None, [1, 1], [0, 0], [1, 1], False, [0, 0], 1)
    calls.append(Call("aten._slow_conv2d_forward", (flat, kernels, [3, 2], None, [1, 1], [0, 0]), slow_out))
    return calls


@st.composite
def attentions(draw: Any) -> list[Call]:
    batch, kv_heads, shared, queries, keys, d, d_v = (draw(SOME) for _ in range(7))
    heads = kv_heads * shared
    shapes = ((batch, heads, queries, d), (batch, kv_heads, keys, d), (batch, kv_heads, keys, d_v))
    q, k, v = (meta(torch.bfloat16, *each) for each in shapes)
    out, lse = meta(torch.bfloat16, batch, heads, queries, d_v), meta(torch.float32, batch, heads, queries)
    last = tuple(each.transpose(1, 2) for each in (q, k, v))
    grads, last_out, seed = (q, k, v), out.transpose(1, 2), meta(torch.int64, 2)
    calls = [
        Call(f"aten._scaled_dot_product_{name}_attention", (q, k, v), (out, lse))
        for name in ("flash", "efficient", "cudnn")
    ]
    calls += [
        Call(f"aten._scaled_dot_product_{name}_attention_backward", (out, q, k, v, out, lse), grads)
        for name in ("flash", "efficient", "cudnn")
    ]
    if torch.ops.aten._scaled_dot_product_flash_attention_for_cpu in flop_registry:  # since torch 2.15
        cpu = "aten._scaled_dot_product_flash_attention_for_cpu"
        calls += [Call(cpu, (q, k, v), (out, lse)), Call(f"{cpu}_backward", (out, q, k, v, out, lse), grads)]
    return [
        *calls,
        Call("aten._flash_attention_forward", (*last, None, None, queries, keys, 0.0, True, False), (last_out, lse)),
        Call("aten._efficient_attention_forward", (*last, None, None, None, queries, keys, 0.0, 0), (last_out, lse)),
        Call(
            "aten._flash_attention_backward",
            (last_out, *last, last_out, lse, None, None, queries, keys, 0.0, True, seed, seed),
            grads,
        ),
        Call(
            "aten._efficient_attention_backward",
            (last_out, *last, None, last_out, None, None, queries, keys, lse, 0.0, seed, seed, 0, False),
            grads,
        ),
    ]


def expected_of_torch(call: Call) -> tuple[int | None, list[str]]:
    ours = call.ours()
    for known in KNOWN:
        if known.where(call):
            return known.torchs(call, ours), [known.why]
    return ours.flops, []


def asked(call: Call) -> int | None:
    try:
        return call.torchs()
    except (TypeError, AssertionError):
        return None


@pytest.mark.parametrize("draws", [products(), convolutions(), attentions()], ids=["products", "convolutions", "sdpa"])
def test_torch_agrees_but_where_it_is_known_not_to(draws: st.SearchStrategy[list[Call]]) -> None:
    @given(draws)
    @settings(max_examples=100, deadline=None)
    def agrees(calls: list[Call]) -> None:
        for call in calls:
            expected, why = expected_of_torch(call)
            assert asked(call) == expected, (call.op, why)

    agrees()


def test_every_op_that_torch_counts_is_drawn_or_lacking(registry: Registry) -> None:
    rows = {each.op for each in registry.entries() if each.kind == "counted"}
    names = {str(each).partition("aten.")[2] for each in flop_registry if str(each).startswith("aten.")}
    assert {f"aten.{name}" for name in names} - rows == set()
    others = {getattr(each, "__name__", str(each)) for each in flop_registry if not str(each).startswith("aten.")}
    # torch registers these where nn.attention.varlen is imported.
    assert {each for each in others if f"torch_attn.{each}" not in rows} == LACKING.keys()
    drawn: set[str] = set()

    @given(st.tuples(products(), convolutions(), attentions()))
    @settings(max_examples=50, deadline=None)
    def collect(draws: tuple[list[Call], ...]) -> None:
        drawn.update(call.op for calls in draws for call in calls)

    collect()
    assert {f"aten.{name}" for name in names} - drawn == set()


X, W = meta(torch.float32, 2, 4, 8, 8), meta(torch.float32, 4, 2, 3, 3)
OUT = meta(torch.float32, 2, 4, 6, 6)
PLAIN = ([1, 1], [0, 0], [1, 1], False, [0, 0], 2)
HEADS = meta(torch.float32, 2, 4, 8, 8)
COMPLEX = meta(torch.complex64, 2, 2)
EXAMPLES = [
    Call("aten.mm", (COMPLEX, COMPLEX), COMPLEX),
    Call("aten.convolution_backward", (OUT, X, W, None, *PLAIN, [True, True, False]), (X, W, None)),
    Call("aten._efficient_attention_forward", (HEADS, HEADS, HEADS, None, None, None, 4, 4), (HEADS, HEADS)),
    Call("aten._scaled_dot_product_flash_attention_backward", (HEADS,) * 5, (HEADS,) * 3),
    Call("aten.cudnn_convolution", (X, W, [0, 0], [1, 1], [1, 1], 2, True, False, True), OUT),
    Call("aten._slow_conv2d_forward", (X, W, [3, 3], None, [1, 1], [0, 0]), OUT),
]


@pytest.mark.parametrize("place", range(len(KNOWN)), ids=[each.op for each in EXAMPLES])
def test_every_known_disagreement_is_still_one(place: int) -> None:
    known, example = KNOWN[place], EXAMPLES[place]
    assert known.where(example)
    assert asked(example) != example.ours().flops
    assert asked(example) == known.torchs(example, example.ours())
