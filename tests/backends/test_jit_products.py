from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from pytest_flopguard.backends.einsum import contraction_products
from pytest_flopguard.core.measurement import FlopTally


def shaped(*shapes: tuple[int, ...], dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, ...]:
    return tuple(torch.ones(shape, dtype=dtype) for shape in shapes)


def conv(name: str, **options: Any) -> Callable[..., torch.Tensor]:
    return lambda x, weight: getattr(F, name)(x, weight, **options)


# (name, function, shapes, multiply-adds by hand); FLOPs are twice as many.
PRODUCTS = [
    ("mm", torch.mm, [(3, 4), (4, 5)], 3 * 4 * 5),
    ("addmm", torch.addmm, [(5,), (3, 4), (4, 5)], 3 * 4 * 5),
    ("addmm_", torch.Tensor.addmm_, [(3, 5), (3, 4), (4, 5)], 3 * 4 * 5),
    ("bmm", torch.bmm, [(2, 3, 4), (2, 4, 5)], 2 * 3 * 4 * 5),
    ("baddbmm", torch.baddbmm, [(2, 3, 5), (2, 3, 4), (2, 4, 5)], 2 * 3 * 4 * 5),
    ("addbmm", torch.addbmm, [(3, 5), (2, 3, 4), (2, 4, 5)], 2 * 3 * 4 * 5),
    ("mv", torch.mv, [(3, 4), (4,)], 3 * 4),
    ("addmv", torch.addmv, [(3,), (3, 4), (4,)], 3 * 4),
    ("dot", torch.dot, [(4,), (4,)], 4),
    ("vdot", torch.vdot, [(4,), (4,)], 4),
    ("vecdot of vectors", torch.linalg.vecdot, [(4,), (4,)], 4),
    # torch multiplies and sums elementwise here, and elementwise work is not counted.
    ("vecdot of rows", torch.linalg.vecdot, [(3, 4), (3, 4)], 0),
    ("outer", torch.outer, [(4,), (5,)], 0),
    ("addr", torch.addr, [(4, 5), (4,), (5,)], 4 * 5),
    ("inner", torch.inner, [(2, 3, 4), (5, 4)], 2 * 3 * 4 * 5),
    ("matmul of vectors", torch.matmul, [(4,), (4,)], 4),
    ("matmul of matrix and vector", torch.matmul, [(3, 4), (4,)], 3 * 4),
    ("matmul of vector and matrix", torch.matmul, [(4,), (4, 5)], 4 * 5),
    ("matmul of batch and vector", torch.matmul, [(2, 3, 4), (4,)], 2 * 3 * 4),
    ("matmul of vector and batch", torch.matmul, [(4,), (2, 4, 5)], 2 * 4 * 5),
    # The left matrix is used for each of the 7 right ones.
    ("matmul that broadcasts", torch.matmul, [(3, 4), (7, 4, 5)], 7 * 3 * 4 * 5),
    ("matmul that broadcasts both", torch.matmul, [(6, 1, 3, 4), (7, 4, 5)], 6 * 7 * 3 * 4 * 5),
    ("linear", F.linear, [(2, 3, 4), (5, 4), (5,)], 2 * 3 * 4 * 5),
    ("linear with one output", F.linear, [(2, 3, 4), (4,)], 2 * 3 * 4),
    # 2x3 @ 3x4 @ 4x5: (AB)C = 24 + 40 = 64, A(BC) = 60 + 30 = 90.
    ("multi_dot", lambda *x: torch.linalg.multi_dot(x), [(2, 3), (3, 4), (4, 5)], 64),
    # A vector first: x(AB) is dearer than (xA)B = 3*40 + 40*7 = 400.
    ("multi_dot of a vector", lambda *x: torch.linalg.multi_dot(x), [(3,), (3, 40), (40, 7)], 400),
    ("tensordot", lambda a, b: torch.tensordot(a, b, dims=2), [(3, 4, 5), (4, 5, 6)], 3 * (4 * 5) * 6),
    # The 3 is contracted: [4*5, 3] @ [3, 4*6].
    ("tensordot by lists", lambda a, b: torch.tensordot(a, b, ([0], [-2])), [(3, 4, 5), (4, 3, 6)], 20 * 3 * 24),
    ("einsum", lambda a, b: torch.einsum("bqd, bkd -> bqk", a, b), [(2, 30, 41), (2, 53, 41)], 2 * 30 * 41 * 53),
    # fvcore's own handle prints and reads back four digits: 1234 * 1000 * 567 = 699,678,000 would be 6.997e8.
    ("large einsum", lambda a, b: torch.einsum("ij,kj->ki", a, b), [(1234, 1000), (567, 1000)], 699_678_000),
    # From left to right: 2*3*4 + 2*4*5 = 64.
    ("einsum of three", lambda *x: torch.einsum("ij,jk,kl->il", *x), [(2, 3), (3, 4), (4, 5)], 64),
    # Broadcast batch 7*2, then 3x4 @ 4x5.
    ("einsum with ellipsis", lambda a, b: torch.einsum("...qd,...kd->...qk", a, b), [(7, 2, 3, 4), (2, 5, 4)], 14 * 60),
    ("einsum without arrow", lambda a, b: torch.einsum("ij,jk", a, b), [(2, 3), (3, 4)], 2 * 3 * 4),
    ("einsum of a diagonal", lambda a, b: torch.einsum("ii,ij->j", a, b), [(3, 3), (3, 4)], 3 * 4),
    # k belongs to one operand only: it is summed first, 3 * (4) products remain.
    ("einsum that sums first", lambda a, b: torch.einsum("ijk,jl->il", a, b), [(2, 3, 9), (3, 4)], 2 * 3 * 4),
    ("einsum that only scales", lambda a, b: torch.einsum("i,j->ij", a, b), [(3,), (4,)], 0),
    # 6 filters of (4/2)*3*3 terms at 2 * 4 * 4 positions: (8 + 2 - 3) // 2 + 1 = 4.
    ("conv2d", conv("conv2d", stride=2, padding=1, groups=2), [(2, 4, 8, 8), (6, 2, 3, 3)], 6 * 2 * 9 * 2 * 4 * 4),
    ("conv2d of one image", conv("conv2d", padding=1), [(4, 8, 8), (6, 4, 3, 3)], 6 * 4 * 9 * 8 * 8),
    ("conv2d same", conv("conv2d", padding="same"), [(2, 4, 8, 8), (6, 4, 3, 3)], 6 * 4 * 9 * 2 * 8 * 8),
    ("conv1d dilated", conv("conv1d", dilation=2), [(2, 4, 9), (6, 4, 3)], 6 * 4 * 3 * 2 * 5),
    ("conv3d", conv("conv3d"), [(2, 4, 5, 6, 7), (6, 4, 3, 3, 3)], 6 * 4 * 27 * 2 * 3 * 4 * 5),
    # Transposed: the weight [4, 6/2, 3, 3] once for each of 2 * 8 * 8 input positions.
    ("conv_transpose2d", conv("conv_transpose2d", stride=2, groups=2), [(2, 4, 8, 8), (4, 3, 3, 3)], 108 * 128),
    ("conv_tbc", lambda x, w, b: torch.conv_tbc(x, w, b, 1), [(5, 2, 4), (3, 4, 6), (6,)], 3 * 4 * 6 * 5 * 2),
    ("attention", F.scaled_dot_product_attention, [(2, 8, 5, 4), (2, 8, 7, 4), (2, 8, 7, 3)], 2 * 8 * 5 * 7 * (4 + 3)),
    (
        "attention with grouped heads",
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True),
        [(2, 8, 5, 4), (2, 2, 5, 4), (2, 2, 5, 4)],
        2 * 8 * 5 * 5 * (4 + 4),
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("function", "shapes", "products"), [case[1:] for case in PRODUCTS], ids=[c[0] for c in PRODUCTS]
)
def test_products_are_counted_by_hand(
    trace: Callable[..., FlopTally], function: Any, shapes: list[tuple[int, ...]], products: int
) -> None:
    tally = trace(function, *shaped(*shapes))
    assert tally.unknown_ops == ()
    assert tally.forward == 2 * products


def test_a_complex_product_is_four_times_a_real_one(trace: Callable[..., FlopTally]) -> None:
    # A complex multiply-add: 4 multiplications and 4 additions.
    assert trace(torch.mm, *shaped((3, 4), (4, 5), dtype=torch.complex64)).forward == 8 * 3 * 4 * 5


@pytest.mark.parametrize(
    "shapes",
    [[(8, 16), (2, 16, 32)], [(8, 16), (16, 32)], [(2, 8, 16), (16, 32)], [(2, 8, 16), (2, 16, 32)]],
    ids=["rows", "inner", "columns", "batch"],
)
def test_grouped_products(trace: Callable[..., FlopTally], shapes: list[tuple[int, ...]]) -> None:
    # Two groups share the cut dimension. rows: 8*16*32; inner: 8*16*32; columns: 8*16*32; batch: 2*8*16*32.
    a, b = shaped(*shapes, dtype=torch.bfloat16)
    cut = {8: 8, 16: 16, 32: 32}[{(2, 3): a.shape[0], (2, 2): 16, (3, 2): b.shape[-1], (3, 3): 8}[a.ndim, b.ndim]]
    offsets = None if a.ndim == b.ndim == 3 else torch.tensor([cut // 2, cut], dtype=torch.int32)
    # The kernel wants b with columns side by side in memory.
    b = b.transpose(-2, -1).contiguous().transpose(-2, -1)
    groups = 2 if a.ndim == b.ndim == 3 else 1
    assert trace(torch._grouped_mm, a, b, offs=offsets).forward == 2 * groups * 8 * 16 * 32


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("mode", ["train", "eval", "inference path"])
def test_transformer_layer_counts_the_same_in_every_mode(
    trace: Callable[..., FlopTally], mode: str, batch_first: bool
) -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=batch_first).train(mode == "train")
    # B=5, S=2, E=8, ff=16: projections 4*B*S*E*E, core 2*B*S*S*E, feed-forward 2*B*S*E*ff.
    batch, length = (5, 2) if batch_first else (2, 5)
    products = batch * length * (4 * 64 + 2 * length * 8 + 2 * 8 * 16)
    with torch.set_grad_enabled(mode != "inference path"):
        assert trace(layer, torch.ones(5, 2, 8)).forward == 2 * products


def test_attention_ops_of_the_inference_path(trace: Callable[..., FlopTally]) -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval().requires_grad_(False)
    mha = layer.self_attn
    x = torch.ones(5, 2, 8)

    def fused(x: torch.Tensor) -> torch.Tensor:
        return torch._transformer_encoder_layer_fwd(
            x, 8, 2, mha.in_proj_weight, mha.in_proj_bias, mha.out_proj.weight, mha.out_proj.bias, False, False, 1e-5,
            layer.norm1.weight, layer.norm1.bias, layer.norm2.weight, layer.norm2.bias,
            layer.linear1.weight, layer.linear1.bias, layer.linear2.weight, layer.linear2.bias,
        )  # fmt: skip

    with torch.no_grad():
        tally = trace(fused, x)
    assert tally.by_op() == {"aten._transformer_encoder_layer_fwd": 2 * 5 * 2 * (4 * 64 + 2 * 2 * 8 + 2 * 8 * 16)}


@pytest.mark.parametrize(
    ("layer", "weights"),
    [
        # Gates * hidden * (input + hidden).
        (nn.LSTM(4, 8), 4 * 8 * (4 + 8)),
        (nn.GRU(4, 8), 3 * 8 * (4 + 8)),
        (nn.RNN(4, 8, nonlinearity="relu"), 8 * (4 + 8)),
        # The second layer reads both directions of the first.
        (nn.RNN(4, 8, num_layers=2, bidirectional=True), 2 * 8 * (4 + 8) + 2 * 8 * (16 + 8)),
        # What is fed back is projected to 3: gates of (4 + 3), and the projection itself.
        (nn.LSTM(4, 8, proj_size=3), 4 * 8 * (4 + 3) + 3 * 8),
    ],
    ids=["lstm", "gru", "rnn", "bidirectional", "projected"],
)
def test_recurrent_layers(trace: Callable[..., FlopTally], layer: nn.Module, weights: int) -> None:
    x = torch.ones(5, 2, 4)
    assert trace(layer, x).forward == 2 * 5 * 2 * weights
    # One sequence of 5 steps and one of 3.
    packed = nn.utils.rnn.pack_padded_sequence(x, torch.tensor([5, 3]))
    assert trace(layer, packed).forward == 2 * (5 + 3) * weights


@st.composite
def einsums(draw: st.DrawFn) -> tuple[str, list[tuple[int, ...]]]:
    """An equation over up to three operands, and shapes that fit it; every size may be 1."""
    size = {name: draw(st.integers(1, 4)) for name in "abcd"}
    terms = draw(st.lists(st.lists(st.sampled_from("abcd"), max_size=4, unique=True), min_size=1, max_size=3))
    names = sorted({name for term in terms for name in term})
    output = draw(st.permutations(names))[: draw(st.integers(0, len(names)))]
    equation = f"{','.join(map(''.join, terms))}->{''.join(output)}"
    return equation, [tuple(size[name] for name in term) for term in terms]


@given(einsums())
def test_an_einsum_counts_what_torch_makes_of_it(case: tuple[str, list[tuple[int, ...]]]) -> None:
    equation, shapes = case
    # torch's own counter sees the bmm that an einsum becomes, here on the CPU and without attention.
    with FlopCounterMode(display=False) as counter:
        torch.einsum(equation, *shaped(*shapes))
    assert 2 * contraction_products(equation, shapes, None) == counter.get_total_flops()


def test_an_einsum_follows_its_path() -> None:
    # Left to right: (10*2*10) + (10*10*2) = 400. The path contracts the last two first: (2*10*2) + (10*2*2) = 80.
    shapes = [(10, 2), (2, 10), (10, 2)]
    assert contraction_products("ij,jk,kl->il", shapes, None) == 400
    assert contraction_products("ij,jk,kl->il", shapes, [1, 2, 0, 1]) == 80
