"""Products with sparse tensors: loops over what is stored, and torch's functions on every layout."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from pytest_flopguard.backends.call_specs import NoShape, specs
from pytest_flopguard.backends.dispatch import DispatchFlops
from pytest_flopguard.core.measurement import Cost, FlopTally
from pytest_flopguard.core.tensors import TensorSpec
from pytest_flopguard.formulas.registry import Registry

Tally = Callable[[Callable[[], Any]], FlopTally]
Flops = Callable[..., int]
Costs = Callable[..., Cost]
Tensor = torch.Tensor

# 6 x 6 with 9 elements, in 8 of the 9 blocks of 2 x 2.
PLACES = [(0, 0), (0, 5), (1, 1), (2, 2), (2, 4), (3, 1), (4, 0), (5, 3), (5, 5)]
LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "coo": lambda a: a.to_sparse(),
    "csr": lambda a: a.to_sparse_csr(),
    "csc": lambda a: a.to_sparse_csc(),
}
pytestmark = pytest.mark.filterwarnings("ignore:Sparse CSR", "ignore:Sparse BSR")


def dense() -> Tensor:
    a = torch.zeros(6, 6)
    for number, place in enumerate(PLACES):
        a[place] = number + 1.0
    return a


def multiply(b: Tensor) -> tuple[Tensor, int]:
    """Multiply the stored elements alone with [6, N], one multiply-add after the other."""
    out, done = torch.zeros(6, b.shape[1]), 0
    for row, inner in PLACES:
        for column in range(b.shape[1]):
            out[row, column] += dense()[row, inner] * b[inner, column]
            done += 1
    return out, done


@pytest.mark.parametrize("layout", LAYOUTS)
def test_stored_elements_meet_each_column_once(tally: Tally, layout: str) -> None:
    b = torch.arange(18.0).reshape(6, 3)
    expected, done = multiply(b)
    assert done == 9 * 3
    a = LAYOUTS[layout](dense())
    torch.testing.assert_close(a @ b, expected)
    assert tally(lambda: a @ b).forward == 2 * done


FUNCTIONS: list[tuple[Callable[[Tensor, Tensor], Any], int]] = [
    # 2 * 9 * 3 where b has 3 columns.
    (lambda a, b: torch.sparse.mm(a, b), 54),
    (lambda a, b: torch.addmm(torch.ones(6, 3), a, b), 54),
    (lambda a, b: torch.sparse.addmm(torch.ones(6, 3), a, b), 54),
    # From the right side, b's three rows.
    (lambda a, b: b.T @ a, 54),
    (lambda a, b: torch.nn.functional.linear(b.T, a), 54),
    (lambda a, b: a @ b[:, 0], 18),
    (lambda a, b: torch.mv(a, b[:, 0]), 18),
]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("function", "expected"), FUNCTIONS)
def test_torchs_functions(tally: Tally, layout: str, function: Callable[[Tensor, Tensor], Any], expected: int) -> None:
    a = LAYOUTS[layout](dense())
    b = torch.randn(6, 3)
    found = tally(lambda: function(a, b))
    assert found.unknown_ops == ()
    assert found.forward == expected


def test_functions_of_one_layout(tally: Tally) -> None:
    coo, csr, b = dense().to_sparse(), dense().to_sparse_csr(), torch.randn(6, 3)
    assert tally(lambda: torch.hspmm(coo, b)).forward == 54
    assert tally(lambda: torch.smm(coo, b)).forward == 54
    # A pattern of 9 elements, each a dot product of length 4.
    m, n = torch.randn(6, 4), torch.randn(4, 6)
    assert tally(lambda: torch.sparse.sampled_addmm(csr, m, n)).forward == 72
    # Two matrices of 9 elements.
    batch = torch.stack([dense(), dense()]).to_sparse()
    assert tally(lambda: torch.bmm(batch, torch.randn(2, 6, 3))).forward == 108
    # Blocks of 2 x 2 store their zeros: 8 * 4.
    assert tally(lambda: dense().to_sparse_bsr((2, 2)) @ b).forward == 2 * 32 * 3


@pytest.mark.parametrize("reduce", ["sum", "mean", "amax"])
def test_reductions_of_products_count_alike(tally: Tally, reduce: str) -> None:
    a, b = dense().to_sparse_csr().requires_grad_(), torch.randn(6, 3, requires_grad=True)
    found = tally(lambda: torch.sparse.mm(a, b, reduce).sum().backward())
    assert found.unknown_ops == ()
    assert (found.forward, found.backward) == (54, 108)


@pytest.mark.parametrize("layout", ["coo", "csr"])
def test_backward_counts_what_autograd_runs(tally: Tally, layout: str) -> None:
    a, b = LAYOUTS[layout](dense()).requires_grad_(), torch.randn(6, 3, requires_grad=True)
    found = tally(lambda: torch.sparse.mm(a, b).sum().backward())
    # The dense operand's gradient has 9 * 3 multiply-adds again. The sparse one's is a dot product of length 3 for
    # each stored element in CSR; in COO torch multiplies [6, 3] @ [3, 6] in full and masks it.
    of_pattern = 2 * 6 * 3 * 6 if layout == "coo" else 2 * 9 * 3
    assert (found.forward, found.backward) == (54, 54 + of_pattern)


def test_equal_shapes_with_other_elements_are_not_confused(tally: Tally) -> None:
    b = torch.randn(6, 3)
    sparser = torch.zeros(6, 6)
    sparser[0, 0] = 1
    found = tally(lambda: (dense().to_sparse() @ b, sparser.to_sparse() @ b, dense() @ b))
    # 9 elements, 1 element, and 36 where the operand is dense.
    assert found.forward == 2 * 3 * (9 + 1 + 36)


def test_two_sparse_operands_are_unknown(tally: Tally) -> None:
    a = dense().to_sparse_csr()
    (unknown,) = tally(lambda: a @ a).unknown_ops
    assert "indices" in unknown.reason


def test_a_sparse_op_without_a_formula_is_unknown_and_says_so() -> None:
    dense_only = Registry()
    dense_only.op("aten.mm")(lambda a, b: 1)
    with DispatchFlops(dense_only) as flops:
        mark = flops.begin()
        dense().to_sparse_csr() @ torch.ones(6, 3)
        found = {each.op: each.reason for each in flops.end(mark).unknown_ops}
    assert found["aten.mm"] == "no formula is registered for it on sparse tensors"


def test_sparse_tensors_without_elements_are_unknown(tally: Tally) -> None:
    with FakeTensorMode() as mode:
        fake = mode.from_tensor(dense().to_sparse_csr())
        (unknown,) = tally(lambda: fake @ torch.randn(6, 3)).unknown_ops
    assert "does not know how many elements" in unknown.reason
    with pytest.raises(NoShape, match="does not know how many elements"):
        specs(torch.empty(6, 6, layout=torch.sparse_csr, device="meta"))


@pytest.mark.parametrize(
    ("op", "arguments", "out", "expected"),
    [
        # [8, 16] with half of its elements and [16, 4]: 2 * 8*8 * 4.
        ("aten._sparse_semi_structured_mm", [(8, 8), (8, 1), (16, 4)], (8, 4), 512),
        ("aten._sparse_semi_structured_addmm", [(8,), (8, 8), (8, 1), (16, 4)], (8, 4), 512),
        ("aten._sparse_semi_structured_linear", [(2, 2, 16), (8, 8), (8, 1)], (2, 2, 8), 512),
        # Packed with its metadata: the sizes come from the result and the dense operand.
        ("aten._cslt_sparse_mm", [(8, 9), (16, 4)], (8, 4), 512),
    ],
)
def test_semi_structured_operands_store_half(
    flops: Flops, op: str, arguments: list[Any], out: tuple[int, ...], expected: int
) -> None:
    assert flops(op, *arguments, out=out) == expected


def test_triangles_and_factors(cost: Costs) -> None:
    triangle = TensorSpec((6, 6), stored=9)
    assert cost("aten.triangular_solve[sparse]", (6, 3), triangle).flops == 54
    solved = cost("aten._spsolve[sparse]", triangle, (6,))
    assert (solved.flops, solved.reason) == (None, "how the factors of a sparse matrix fill in depends on its indices")
    # A dense matrix from the left meets each stored element with each of its rows, also as the bias of addmm is sparse.
    assert cost("aten.addmm[sparse]", triangle, (2, 6), triangle).flops == 2 * 2 * 9
    assert cost("aten.addmm[sparse]", triangle, (6, 6), (6, 6)).flops is None
