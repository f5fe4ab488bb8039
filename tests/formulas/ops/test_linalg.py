"""Linear algebra: hand calculations, textbook algorithms that count themselves, and what torch's functions lower to."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from typing import Any

import pytest
import torch

from pytest_flopguard.core.measurement import FlopTally
from pytest_flopguard.core.tensors import TensorSpec

Tally = Callable[[Callable[[], Any]], FlopTally]
Flops = Callable[..., int]
Matrix = list[list[float]]


class Counted:
    """Arithmetic that counts itself."""

    def __init__(self) -> None:
        self.done = 0

    def minus(self, a: float, x: float, y: float) -> float:
        """One multiplication and one subtraction."""
        self.done += 2
        return a - x * y

    def over(self, a: float, b: float) -> float:
        self.done += 1
        return a / b

    def root(self, a: float) -> float:
        self.done += 1
        return math.sqrt(a)

    def dot(self, x: list[float], y: list[float]) -> float:
        self.done += 2 * len(x)
        return sum(a * b for a, b in zip(x, y, strict=True))


def cholesky(a: Matrix, work: Counted) -> Matrix:
    """Column by column, the triangle below the diagonal only."""
    n = len(a)
    for k in range(n):
        a[k][k] = work.root(a[k][k])
        for i in range(k + 1, n):
            a[i][k] = work.over(a[i][k], a[k][k])
        for j in range(k + 1, n):
            for i in range(j, n):
                a[i][j] = work.minus(a[i][j], a[i][k], a[j][k])
    return a


def lu(a: Matrix, work: Counted) -> Matrix:
    """Gauss's elimination, without pivots."""
    rows, columns = len(a), len(a[0])
    for k in range(min(rows, columns)):
        for i in range(k + 1, rows):
            a[i][k] = work.over(a[i][k], a[k][k])
            for j in range(k + 1, columns):
                a[i][j] = work.minus(a[i][j], a[i][k], a[k][j])
    return a


def householder(a: Matrix, work: Counted) -> tuple[Matrix, list[list[float]]]:
    """Reflect the columns away, one after the other; returns R and the reflectors, each as long as it acts."""
    rows, columns = len(a), len(a[0])
    reflectors = []
    for k in range(min(rows, columns)):
        v = [a[i][k] for i in range(k, rows)]
        v[0] += math.copysign(work.root(work.dot(v, v)), v[0])
        size = work.dot(v, v)
        reflectors.append(v)
        for j in range(k, columns):
            factor = work.over(2 * work.dot(v, [a[i][j] for i in range(k, rows)]), size)
            for i in range(k, rows):
                a[i][j] = work.minus(a[i][j], factor, v[i - k])
    return a, reflectors


def columns_of_q(rows: int, columns: int, reflectors: list[list[float]], work: Counted) -> Matrix:
    """Reflect the identity's columns, the last reflector first; what is still zero is not touched."""
    q = [[float(i == j) for j in range(columns)] for i in range(rows)]
    for k in reversed(range(len(reflectors))):
        v = reflectors[k]
        size = work.dot(v, v)
        for j in range(k, columns):
            factor = work.over(2 * work.dot(v, [q[i][j] for i in range(k, rows)]), size)
            for i in range(k, rows):
                q[i][j] = work.minus(q[i][j], factor, v[i - k])
    return q


def reflect(reflectors: list[list[float]], c: Matrix, work: Counted) -> Matrix:
    """Apply every reflector to every column."""
    for k, v in enumerate(reflectors):
        size = work.dot(v, v)
        for j in range(len(c[0])):
            factor = work.over(2 * work.dot(v, [c[i][j] for i in range(k, len(c))]), size)
            for i in range(k, len(c)):
                c[i][j] = work.minus(c[i][j], factor, v[i - k])
    return c


def substitute(a: Matrix, b: Matrix, work: Counted) -> Matrix:
    """Substitute forward."""
    for j in range(len(b[0])):
        for i in range(len(a)):
            for k in range(i):
                b[i][j] = work.minus(b[i][j], a[i][k], b[k][j])
            b[i][j] = work.over(b[i][j], a[i][i])
    return b


def positive(n: int) -> Matrix:
    return [[float(n if i == j else 1 / (1 + i + j)) for j in range(n)] for i in range(n)]


def filled(rows: int, columns: int) -> Matrix:
    return [[math.sin(1.0 + i * columns + j) + (i == j) * rows for j in range(columns)] for i in range(rows)]


def leading(count: Callable[[int], int]) -> int:
    """Third difference of a polynomial of degree three: its leading term alone, as the lower powers vanish."""
    one, two, three, four = map(count, (3, 6, 9, 12))
    return four - 3 * three + 3 * two - one


def work_of(algorithm: Callable[..., Any], *arguments: Any) -> int:
    work = Counted()
    algorithm(*arguments, work)
    return work.done


def test_cholesky_does_its_leading_term(flops: Flops) -> None:
    result = cholesky(positive(5), Counted())
    expected = torch.linalg.cholesky(torch.tensor(positive(5), dtype=torch.float64))
    torch.testing.assert_close(torch.tensor(result, dtype=torch.float64).tril(), expected)
    done = leading(lambda n: work_of(cholesky, positive(n)))
    assert done == leading(lambda n: flops("aten.linalg_cholesky_ex", (n, n))) == leading(lambda n: n**3 // 3)


SHAPES = pytest.mark.parametrize("shape", [lambda t: (t, t), lambda t: (2 * t, t), lambda t: (t, 2 * t)])
Shape = Callable[[int], tuple[int, int]]


@SHAPES
def test_elimination_does_its_leading_term(flops: Flops, shape: Shape) -> None:
    done = leading(lambda t: work_of(lu, filled(*shape(t))))
    assert done == leading(lambda t: flops("aten.linalg_lu_factor_ex", shape(t)))


@SHAPES
def test_householders_qr_does_its_leading_terms(flops: Flops, shape: Shape) -> None:
    def reflectors(t: int) -> list[list[float]]:
        return householder(filled(*shape(t)), Counted())[1]

    def thin(t: int) -> int:
        return work_of(columns_of_q, shape(t)[0], t, reflectors(t))

    def full(t: int) -> int:
        return work_of(columns_of_q, shape(t)[0], shape(t)[0], reflectors(t))

    q = columns_of_q(shape(3)[0], 3, reflectors(3), Counted())
    expected = torch.linalg.qr(torch.tensor(filled(*shape(3)), dtype=torch.float64))[0]
    torch.testing.assert_close(torch.tensor(q, dtype=torch.float64).abs(), expected.abs())

    factors = leading(lambda t: work_of(householder, filled(*shape(t))))
    assert factors == leading(lambda t: flops("aten.geqrf", shape(t)))
    assert factors == leading(lambda t: flops("aten.linalg_qr", shape(t), "r"))
    assert factors + leading(thin) == leading(lambda t: flops("aten.linalg_qr", shape(t), "reduced"))
    assert factors + leading(full) == leading(lambda t: flops("aten.linalg_qr", shape(t), "complete"))
    rows = shape(1)[0]
    assert leading(thin) == leading(lambda t: flops("aten.linalg_householder_product", (rows * t, t), (t,)))


def test_reflecting_does_its_leading_term(flops: Flops) -> None:
    # t reflectors of length 3t on 2t columns.
    def work(t: int) -> int:
        return work_of(reflect, householder(filled(3 * t, t), Counted())[1], filled(3 * t, 2 * t))

    assert leading(work) == leading(lambda t: flops("aten.ormqr", (3 * t, t), (t,), (3 * t, 2 * t)))
    # C Q^T from the other side is the transpose of Q C^T.
    assert leading(work) == leading(lambda t: flops("aten.ormqr", (3 * t, t), (t,), (2 * t, 3 * t), False))


@pytest.mark.parametrize(("n", "columns"), [(1, 1), (20, 1), (20, 7)])
def test_a_triangle_does_exactly_its_term(flops: Flops, n: int, columns: int) -> None:
    work = Counted()
    substitute(filled(n, n), filled(n, columns), work)
    # A division and all multiply-adds below: n*(n-1) + n for each right side.
    assert work.done == flops("aten.linalg_solve_triangular", (n, n), (n, columns), out=(n, columns), upper=False)


@pytest.mark.parametrize(
    ("op", "arguments", "expected"),
    [
        # n^3/3 = 333.3, and for two matrices twice the rounded one.
        ("aten.linalg_cholesky_ex", [(10, 10)], 333),
        ("aten.linalg_cholesky_ex", [(2, 10, 10)], 666),
        ("aten.linalg_ldl_factor_ex", [(10, 10)], 333),
        ("aten.cholesky", [(1, 1)], 0),
        ("aten.cholesky", [(0, 0)], 0),
        # 2*n^3/3 = 666.7
        ("aten.cholesky_inverse", [(10, 10)], 667),
        ("aten.linalg_lu", [(10, 10)], 667),
        ("aten._linalg_det", [(10, 10)], 667),
        ("aten._linalg_slogdet", [(3, 10, 10)], 2001),
        # 20 * 10^2 - 10^3/3 = 1,666.7, standing or lying.
        ("aten.linalg_lu_factor_ex", [(20, 10)], 1667),
        ("aten.linalg_lu_factor_ex", [(10, 20)], 1667),
        # 2*n^3
        ("aten.linalg_inv_ex", [(10, 10)], 2000),
        # 2*20*100 - 2000/3
        ("aten.geqrf", [(20, 10)], 3333),
        ("aten.linalg_qr", [(20, 10), "r"], 3333),
        # Thin: as much again, 4*20*10*10 - 2*30*100 + 4000/3 = 3,333.3; together 6,666.7.
        ("aten.linalg_qr", [(20, 10)], 6667),
        # Full: 4*20*20*10 - 2*40*100 + 4000/3 = 9,333.3; together 12,666.7.
        ("aten.linalg_qr", [(20, 10), "complete"], 12_667),
        # Eigenvalues: 4*n^3/3 and 9*n^3; general ones 25*n^3, with or without vectors.
        ("aten._linalg_eigh", [(10, 10), "L", False], 1333),
        ("aten._linalg_eigh", [(10, 10)], 9000),
        ("aten.linalg_eigvals", [(10, 10)], 25_000),
        ("aten._linalg_eigvals", [(10, 10)], 25_000),
        ("aten.linalg_eig", [(10, 10)], 25_000),
        # Values: 4*10*100 - 4000/3 = 2,666.7 against 2000 + 2000.
        ("aten._linalg_svd", [(10, 10), False, False], 2667),
        # 100 x 10: 40,000 - 1,333 against 20,000 + 2,000.
        ("aten._linalg_svd", [(100, 10), False, False], 22_000),
        # Thin vectors: 140,000 + 8,000 against 60,000 + 20,000, standing or lying.
        ("aten._linalg_svd", [(100, 10)], 80_000),
        ("aten._linalg_svd", [(10, 100)], 80_000),
        # Square ones are full ones: 4,000 + 8,000 + 9,000.
        ("aten._linalg_svd", [(10, 10)], 21_000),
        ("aten._linalg_svd", [(10, 10), True], 21_000),
        # Full vectors: 400,000 + 80,000 + 9,000 against 400,000 + 22,000.
        ("aten._linalg_svd", [(100, 10), True], 422_000),
        # Thin vectors and 2*100*10*10.
        ("aten.linalg_pinv", [(100, 10)], 100_000),
        # Thin vectors, and 2*100*10*10 + 2*10*10*10.
        ("aten.linalg_polar", [(100, 10)], 102_000),
        # 9*n^3 for the vectors, and 2*n^3.
        ("aten.linalg_matrix_sqrth", [(10, 10)], 11_000),
        # Five products of 2*n^3.
        ("aten.linalg_matrix_exp", [(10, 10)], 10_000),
    ],
)
def test_by_hand(flops: Flops, op: str, arguments: list[Any], expected: int) -> None:
    assert flops(op, *arguments) == expected


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        # 2000/3 for the factors, and 2 * 10^2 for each of 3 right sides.
        (lambda a, b: torch.linalg.solve(a, b), 667 + 600),
        (lambda a, b: torch.linalg.solve(a, b[:, 0]), 667 + 200),
        (lambda a, b: torch.linalg.solve(a, b.T, left=False), 667 + 600),
        # Two systems of one matrix: torch factors it twice.
        (lambda a, b: torch.linalg.solve(a.expand(2, 10, 10), b), 2 * (667 + 600)),
        (lambda a, b: torch.linalg.solve_triangular(a, b, upper=True), 300),
        (lambda a, b: torch.triangular_solve(b, a)[0], 300),
        (lambda a, b: torch.cholesky_solve(b, a), 600),
        (lambda a, b: torch.linalg.lu_solve(*torch.linalg.lu_factor(a), b), 667 + 600),
        (lambda a, b: torch.linalg.ldl_solve(*torch.linalg.ldl_factor(a), b), 333 + 600),
        (lambda a, b: torch.linalg.cholesky(a), 333),
        (lambda a, b: torch.linalg.inv(a), 2000),
        (lambda a, b: torch.linalg.det(a), 667),
        (lambda a, b: torch.logdet(a), 667),
        (lambda a, b: torch.linalg.eigh(a), 9000),
        (lambda a, b: torch.linalg.eig(a), 25_000),
        (lambda a, b: torch.linalg.svd(a), 21_000),
        # Under any dispatch mode, torch computes the vectors too where only values are asked for.
        (lambda a, b: torch.linalg.eigvalsh(a), 9000),
        (lambda a, b: torch.linalg.eigvals(a), 25_000),
        (lambda a, b: torch.linalg.svdvals(a), 21_000),
        (lambda a, b: torch.linalg.matrix_rank(a), 21_000),
        (lambda a, b: torch.linalg.pinv(a), 23_000),
        (lambda a, b: torch.linalg.pinv(a, hermitian=True), 11_000),
        # 10 x 3: 2*10*9 - 2*27/3 for the factors, (4*10*3 - 2*9) + 9 for each of 10 right sides.
        (lambda a, b: torch.linalg.lstsq(b, a), 162 + 1110),
        (lambda a, b: torch.linalg.qr(a)[1], 2667),
        (lambda a, b: torch.linalg.matrix_exp(a), 10_000),
        # Products of matrices alone: 2 * 10^3 each.
        (lambda a, b: torch.linalg.matrix_power(a, 4), 4000),
        (lambda a, b: torch.linalg.multi_dot([a, a, b]), 600 + 600),
    ],
)
@pytest.mark.filterwarnings("ignore:torch.triangular_solve")
def test_torchs_functions(tally: Tally, function: Callable[..., Any], expected: int) -> None:
    a = torch.tensor(positive(10))
    b = torch.tensor(filled(10, 3))
    found = tally(lambda: function(a, b))
    assert found.unknown_ops == ()
    assert found.forward == expected


MODES = {"grad": torch.enable_grad, "no grad": torch.no_grad, "inference": torch.inference_mode}


@pytest.mark.parametrize(
    "function",
    [
        lambda a, b: torch.linalg.cholesky(a),
        lambda a, b: torch.linalg.cond(a),
        lambda a, b: torch.linalg.cond(a, 1),
        lambda a, b: torch.linalg.cond(a, "nuc"),
        lambda a, b: torch.linalg.det(a),
        lambda a, b: torch.linalg.eig(a),
        lambda a, b: torch.linalg.eigh(a),
        lambda a, b: torch.linalg.eigvals(a),
        lambda a, b: torch.linalg.eigvals(a.to(torch.complex64)),
        lambda a, b: torch.linalg.eigvals(a.expand(2, 10, 10)),
        lambda a, b: torch.linalg.eigvalsh(a),
        lambda a, b: torch.linalg.householder_product(*torch.geqrf(b)),
        lambda a, b: torch.linalg.inv(a),
        lambda a, b: torch.linalg.ldl_solve(*torch.linalg.ldl_factor(a), b),
        lambda a, b: torch.linalg.lstsq(b, a),
        lambda a, b: torch.linalg.lu(a),
        lambda a, b: torch.linalg.lu_solve(*torch.linalg.lu_factor(a), b),
        lambda a, b: torch.linalg.matrix_exp(a),
        lambda a, b: torch.linalg.matrix_norm(b, 2),
        lambda a, b: torch.linalg.matrix_norm(b, "nuc"),
        lambda a, b: torch.linalg.matrix_power(a, -2),
        lambda a, b: torch.linalg.matrix_rank(b),
        lambda a, b: torch.linalg.matrix_rank(a, hermitian=True),
        lambda a, b: torch.linalg.multi_dot([a, a, b]),
        lambda a, b: torch.linalg.pinv(b),
        lambda a, b: torch.linalg.pinv(b, 0.1),
        lambda a, b: torch.linalg.pinv(a, hermitian=True),
        lambda a, b: torch.linalg.qr(b),
        lambda a, b: torch.linalg.qr(b, mode="complete"),
        lambda a, b: torch.linalg.slogdet(a),
        lambda a, b: torch.linalg.solve(a, b),
        lambda a, b: torch.linalg.solve_triangular(a, b, upper=True),
        lambda a, b: torch.linalg.svd(b),
        lambda a, b: torch.linalg.svdvals(b),
        lambda a, b: torch.linalg.tensorinv(a.view(10, 2, 5), ind=1),
        lambda a, b: torch.linalg.tensorsolve(a, b[:, 0]),
        lambda a, b: torch.pca_lowrank(b, q=2),
        lambda a, b: torch.svd_lowrank(b, q=2),
    ],
)
def test_gradient_modes_count_alike(tally: Tally, function: Callable[..., Any]) -> None:
    # Inference mode delivers composite ops whole, such as linalg_eigvals; the others deliver their parts.
    found = {}
    for name, mode in MODES.items():
        a = torch.tensor(positive(10), requires_grad=name == "grad")
        b = torch.tensor(filled(10, 3))
        with mode():
            found[name] = tally(partial(function, a, b)).total
    assert found["grad"]
    assert set(found.values()) == {found["grad"]}, found


def test_complex_numbers_count_four_times(tally: Tally) -> None:
    a = torch.tensor(positive(10), dtype=torch.complex64)
    # 4 * 2000/3, rounded once.
    assert tally(lambda: torch.linalg.det(a)).forward == round(Fraction(4 * 2000, 3)) == 2667
    b = torch.ones(10, 3, dtype=torch.complex64)
    assert tally(lambda: torch.linalg.solve_triangular(a, b, upper=True)).forward == 1200


def test_results_may_be_written_where_the_caller_says(tally: Tally) -> None:
    a = torch.tensor(positive(10))
    factor, info = torch.empty(10, 10), torch.empty((), dtype=torch.int32)
    assert tally(lambda: torch.linalg.cholesky_ex(a, out=(factor, info))).forward == 333


def test_backward_counts_its_own_ops(tally: Tally) -> None:
    a = torch.tensor(positive(10), requires_grad=True)
    found = tally(lambda: torch.linalg.inv(a).sum().backward())
    # -A^-T G A^-T: two products of 2*n^3.
    assert (found.forward, found.backward) == (2000, 4000)


def test_empty_systems_cost_nothing(flops: Flops) -> None:
    empty = [TensorSpec((0, 3)), TensorSpec((0,))]
    assert flops("aten.linalg_lstsq", (0, 3, 3), (0, 3), out=empty) == 0
    assert flops("aten.linalg_solve_triangular", (3, 3), (3, 0), out=(3, 0), upper=True) == 0
