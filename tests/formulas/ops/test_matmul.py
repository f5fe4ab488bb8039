"""Matrix products: hand calculations, and loops that do and count every multiply-add."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise, product
from typing import Any

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_flopguard.core.measurement import OpCall
from pytest_flopguard.core.tensors import TensorSpec
from pytest_flopguard.formulas.ops.matmul import broadcast
from pytest_flopguard.formulas.registry import Registry, default_registry

Array = numpy.ndarray[Any, numpy.dtype[Any]]
Flops = Callable[..., int]
SIZE = st.integers(min_value=0, max_value=4)
REGISTRY = default_registry()


def count(op: str, *arguments: Any, dtype: str = "float32", out: Any = None) -> int | None:
    """Count an op call; arrays and tuples are tensors of their shape and the given dtype."""

    def spec(each: Any) -> Any:
        shape = each.shape if isinstance(each, numpy.ndarray) else each
        return TensorSpec(shape, dtype) if isinstance(shape, tuple) else each

    return REGISTRY.cost(OpCall(op=op, args=tuple(map(spec, arguments)), out=spec(out))).flops


def multiply(a: Array, b: Array) -> tuple[Array, int]:
    """[*, M, K] @ [*, K, N] one multiply-add after the other; returns the product and how many there were."""
    lead = numpy.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    a, b = numpy.broadcast_to(a, lead + a.shape[-2:]), numpy.broadcast_to(b, lead + b.shape[-2:])
    out = numpy.zeros((*lead, a.shape[-2], b.shape[-1]))
    done = 0
    for *batch, row, column in product(*map(range, out.shape)):
        for inner in range(a.shape[-1]):
            out[(*batch, row, column)] += a[(*batch, row, inner)] * b[(*batch, inner, column)]
            done += 1
    return out, done


def filled(*shape: int) -> Array:
    return numpy.arange(1.0, numpy.prod(shape) + 1).reshape(shape)


@pytest.mark.parametrize(
    ("op", "shapes", "expected"),
    [
        # 2 * 2 * 3 * 5
        ("aten.mm", [(2, 3), (3, 5)], 60),
        ("aten._int_mm", [(2, 3), (3, 5)], 60),
        # GPT-2's vocabulary for 1024 positions: 2 * 1024 * 768 * 50257.
        ("aten.mm", [(1024, 768), (768, 50257)], 79_047_426_048),
        # The addition of the bias is elementwise: as mm.
        ("aten._scaled_addmm", [(2, 5), (2, 3), (3, 5)], 60),
        ("aten._scaled_addmm_", [(2, 5), (2, 3), (3, 5)], 60),
        ("aten.addmm", [(5,), (2, 3), (3, 5)], 60),
        ("aten._addmm_activation", [(5,), (2, 3), (3, 5)], 60),
        # 4 batches of 60.
        ("aten.bmm", [(4, 2, 3), (4, 3, 5)], 240),
        ("aten.baddbmm", [(4, 2, 5), (4, 2, 3), (4, 3, 5)], 240),
        # Sums over the batches inside the same dot products: 2 * 2 * (4 * 3) * 5.
        ("aten.addbmm", [(2, 5), (4, 2, 3), (4, 3, 5)], 240),
        # 2 * 4 * 3
        ("aten.mv", [(4, 3), (3,)], 24),
        ("aten.addmv", [(4,), (4, 3), (3,)], 24),
        # 2 * 7
        ("aten.dot", [(7,), (7,)], 14),
        ("aten.vdot", [(7,), (7,)], 14),
        # 2 * 4 * 5
        ("aten.addr", [(4, 5), (4,), (5,)], 40),
        # 2 * (2 * 3) * 4 * 5: rows in two dimensions, K = 4, N = 5.
        ("aten.linear", [(2, 3, 4), (5, 4)], 240),
        ("aten.linear", [(2, 3, 4), (5, 4), (5,)], 240),
        # A weight without rows is one row: 2 * 6 * 4.
        ("aten.linear", [(2, 3, 4), (4,)], 48),
        # [3] @ [3], [2, 3] @ [3], [3] @ [3, 5], [2, 3] @ [3, 5]
        ("aten.matmul", [(3,), (3,)], 6),
        ("aten.matmul", [(2, 3), (3,)], 12),
        ("aten.matmul", [(3,), (3, 5)], 30),
        ("aten.matmul", [(2, 3), (3, 5)], 60),
        # Batches 7x1 and 4 broadcast to 7x4: 28 * 60.
        ("aten.matmul", [(7, 1, 2, 3), (4, 3, 5)], 1680),
        ("aten.matmul", [(4, 2, 3), (3,)], 48),
        # [4, 3] coefficients times 3 matrices of 2 * 5: 2 * 4 * 30.
        ("aten._compute_linear_combination", [(3, 2, 5), (4, 3)], 240),
        # Nothing to multiply: no rows, nothing to sum, no columns.
        ("aten.mm", [(0, 3), (3, 5)], 0),
        ("aten.mm", [(2, 0), (0, 5)], 0),
        ("aten.mm", [(2, 3), (3, 0)], 0),
        ("aten.dot", [(0,), (0,)], 0),
        # 6 rows, each meets one of 4 matrices [3, 5]: 2 * 6 * 3 * 5.
        ("aten._grouped_mm", [(6, 3), (4, 3, 5), (4,)], 180),
        # The inner dimension of 6 is cut into 4: 2 * 2 * 6 * 5.
        ("aten._grouped_mm", [(2, 6), (6, 5), (4,)], 120),
        # 6 columns, each meets one of 4 matrices [2, 3]: 2 * 2 * 3 * 6.
        ("aten._grouped_mm", [(4, 2, 3), (3, 6), (4,)], 72),
        # Without cuts it is a bmm: 4 * 2 * 2 * 3 * 5.
        ("aten._grouped_mm", [(4, 2, 3), (4, 3, 5)], 240),
    ],
)
def test_products_count_two_for_each_multiply_add(op: str, shapes: list[tuple[int, ...]], expected: int) -> None:
    assert count(op, *shapes) == expected


@pytest.mark.parametrize("op", ["aten._scaled_mm", "aten._scaled_mm_v2"])
def test_scales_are_not_counted(flops: Flops, op: str) -> None:
    # 2 * 16 * 32 * 64, whatever comes after the operands.
    rest = [(1,), (1,)] if op == "aten._scaled_mm" else [[], [0], [0], [], [0], [0], None, None]
    assert flops(op, (16, 32), (32, 64), *rest) == 65_536


@pytest.mark.parametrize("op", ["aten._scaled_grouped_mm", "aten._scaled_grouped_mm_v2"])
def test_scaled_groups_count_as_groups(flops: Flops, op: str) -> None:
    # 2 * 6 * 16 * 32
    assert flops(op, (6, 16), (4, 16, 32), (6,), (4, 32)) == 6144


@pytest.mark.parametrize("dtype", ["complex64", "complex128", "complex32"])
def test_a_complex_multiply_add_is_four_of_each(dtype: str) -> None:
    # (a + bi)(c + di) + (e + fi): 4 multiplications and 4 additions, for 2 * 3 * 5 of them.
    assert count("aten.mm", (2, 3), (3, 5), dtype=dtype) == 8 * 30
    assert count("aten.dot", (7,), (7,), dtype=dtype) == 8 * 7


def test_two_four_bit_numbers_in_one_element_are_two() -> None:
    # Shapes tell half of K: [16, 32 of 2] @ [32 of 2, 8] is 2 * 16 * 64 * 8.
    assert count("aten._scaled_mm", (16, 32), (32, 8), dtype="float4_e2m1fn_x2") == 16_384


def test_a_list_of_products_is_their_sum(registry: Registry) -> None:
    left, right = [TensorSpec((2, 3)), TensorSpec((1, 4))], [TensorSpec((3, 5)), TensorSpec((4, 4))]
    # 2*2*3*5 + 2*1*4*4
    assert registry.cost(OpCall(op="aten._foreach_mm", args=(left, right))).flops == 60 + 32


@given(m=SIZE, k=SIZE, n=SIZE, batch=SIZE)
@settings(deadline=None)
def test_loops_do_as_many_multiply_adds_as_counted(m: int, k: int, n: int, batch: int) -> None:
    out, done = multiply(filled(m, k), filled(k, n))
    assert numpy.array_equal(out, filled(m, k) @ filled(k, n))
    assert count("aten.mm", (m, k), (k, n)) == count("aten.addmm", (n,), (m, k), (k, n)) == 2 * done
    assert count("aten.mv", (m, k), (k,)) == 2 * multiply(filled(m, k), filled(k, 1))[1]
    assert count("aten.dot", (k,), (k,)) == 2 * multiply(filled(1, k), filled(k, 1))[1]
    assert count("aten.addr", (m, n), (m,), (n,)) == 2 * multiply(filled(m, 1), filled(1, n))[1]
    assert count("aten.linear", (batch, m, k), (n, k)) == 2 * batch * done
    a, b = filled(batch, m, k), filled(batch, k, n)
    out, done = multiply(a, b)
    assert numpy.array_equal(out, a @ b)
    assert count("aten.bmm", a, b) == count("aten.baddbmm", (n,), a, b) == 2 * done
    # Side by side in the inner dimension, as addbmm sums them.
    a, b = a.transpose(1, 0, 2).reshape(m, batch * k), b.reshape(batch * k, n)
    assert count("aten.addbmm", (m, n), (batch, m, k), (batch, k, n)) == 2 * multiply(a, b)[1]


LEADS = st.sampled_from(
    [((), ()), ((3,), ()), ((), (2,)), ((3, 1), (2,)), ((1, 2), (3, 1)), ((2,), (2,)), ((0,), (1,))]
)


@given(m=SIZE, k=SIZE, n=SIZE, leads=LEADS)
@settings(deadline=None)
def test_broadcast_products_do_as_many_as_counted(m: int, k: int, n: int, leads: Any) -> None:
    a, b = filled(*leads[0], m, k), filled(*leads[1], k, n)
    out, done = multiply(a, b)
    assert numpy.array_equal(out, numpy.matmul(a, b))
    assert count("aten.matmul", a, b) == 2 * done


def cut(total: int, places: list[int]) -> list[range]:
    edges = [0, *sorted(min(place, total) for place in places), total]
    return [range(left, right) for left, right in pairwise(edges)]


@given(rows=SIZE, k=SIZE, n=SIZE, places=st.lists(SIZE, max_size=3))
@settings(deadline=None)
def test_groups_do_as_many_as_counted(rows: int, k: int, n: int, places: list[int]) -> None:
    groups = cut(rows, places)
    a, b = filled(rows, k), filled(len(groups), k, n)
    done = sum(multiply(a[group.start : group.stop], b[each])[1] for each, group in enumerate(groups))
    assert count("aten._grouped_mm", a, b, (len(groups),)) == 2 * done
    # The inner dimension cut: [k, rows] @ [rows, n], group by group.
    inner = [multiply(a.T[:, g.start : g.stop], filled(rows, n)[g.start : g.stop])[1] for g in groups]
    assert count("aten._grouped_mm", a.T, (rows, n), (len(groups),)) == 2 * sum(inner)
    # The columns cut: [G, n, k] @ [k, rows].
    columns = [multiply(b[each].T, a.T[:, g.start : g.stop])[1] for each, g in enumerate(groups)]
    assert count("aten._grouped_mm", (len(groups), n, k), a.T, (len(groups),)) == 2 * sum(columns)


@given(st.lists(st.sampled_from([(), (3,), (1,), (2, 3), (2, 1), (4, 1, 1)]), min_size=2, max_size=2))
@settings(deadline=None)
def test_shapes_broadcast_as_numpys_do(shapes: list[tuple[int, ...]]) -> None:
    assert broadcast(*shapes) == numpy.broadcast_shapes(*shapes)
