"""Factorisations, solvers and eigenvalues, by the textbooks' leading terms; lower powers of the sizes are left out.

Direct methods follow LAPACK Working Note 41 (Blackford and Dongarra, 1999, appendix on operation counts), methods
that iterate Golub and Van Loan, Matrix Computations, 4th edition (GVL), which counts the iterations that they usually
take. The algorithm that a device picks is not asked, so the same call counts the same everywhere. A term in thirds is
rounded to the nearest integer, for each matrix of a batch. An operation on complex numbers counts as four.

Asked for eigenvalues or singular values alone, torch computes the vectors too while a dispatch mode watches, and so
they are counted; ``torch.linalg.eigvalsh`` then reads as ``eigh``. Where ``eigvals`` comes whole, as in inference mode,
it counts as ``eig`` as well: the same program gives the same number.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from pytest_flopguard.core.tensors import TensorSpec
from pytest_flopguard.formulas.registry import formula

# It only takes the triangles of a factorisation apart.
FREE = ("aten.lu_unpack",)


def _each(a: TensorSpec, thirds: int) -> int:
    """FLOPs of a batch of matrices, from three times the FLOPs of one real matrix."""
    thirds *= 4 if a.is_complex else 1
    return prod(a.shape[:-2]) * ((2 * thirds + 3) // 6)


def _lu(m: int, n: int) -> int:
    """Three times the FLOPs of LU factors: m*n^2 - n^3/3 with n the smaller (GETRF)."""
    m, n = max(m, n), min(m, n)
    return 3 * m * n**2 - n**3


def _qr(m: int, n: int) -> int:
    """Three times the FLOPs of Householder's reflectors and R: 2*m*n^2 - 2*n^3/3 with n the smaller (GEQRF)."""
    return 2 * _lu(m, n)


def _columns_of_q(m: int, n: int, k: int) -> int:
    """Three times the FLOPs of n columns of length m out of k reflectors: 4mnk - 2(m + n)k^2 + 4k^3/3 (ORGQR)."""
    return 12 * m * n * k - 6 * (m + n) * k**2 + 4 * k**3


def _svd(m: int, n: int, vectors: str) -> int:
    """Three times the FLOPs of singular values and vectors: the cheaper column of GVL figure 8.6.1, n the smaller."""
    m, n = max(m, n), min(m, n)
    if vectors == "none":
        return min(12 * m * n**2 - 4 * n**3, 6 * m * n**2 + 6 * n**3)
    full = 12 * m**2 * n + min(24 * m * n**2 + 27 * n**3, 66 * n**3)
    return full if vectors == "full" else min(full, 42 * m * n**2 + 24 * n**3, 18 * m * n**2 + 60 * n**3)


def _with_right_sides(a: TensorSpec, solution: TensorSpec, per_element: int) -> int:
    """FLOPs of solving for every right side, so many times the order of the matrix for each element of the solution."""
    return per_element * a.shape[-1] * solution.numel * (4 if solution.is_complex else 1)


@formula("aten.cholesky", "aten.linalg_cholesky_ex", "aten.linalg_ldl_factor_ex")
def cholesky(a: TensorSpec, *_: Any, **__: Any) -> int:
    """[n, n]: n^3/3 (POTRF, SYTRF)."""
    return _each(a, a.shape[-1] ** 3)


@formula("aten.cholesky_inverse")
def cholesky_inverse(a: TensorSpec, *_: Any) -> int:
    """[n, n] factor: 2*n^3/3 (POTRI)."""
    return _each(a, 2 * a.shape[-1] ** 3)


@formula("aten.cholesky_solve", "aten._cholesky_solve_helper")
def cholesky_solve(b: TensorSpec, factor: TensorSpec, *_: Any, out: TensorSpec) -> int:
    """[n, k] right sides, [n, n] factor: two triangles, 2*n^2*k (POTRS)."""
    return _with_right_sides(factor, out, 2)


@formula("aten.linalg_lu_factor_ex", "aten.linalg_lu", "aten._linalg_det", "aten._linalg_slogdet")
def lu(a: TensorSpec, *_: Any, **__: Any) -> int:
    """[m, n], m >= n: m*n^2 - n^3/3 (GETRF), for a square 2*n^3/3; a determinant is read off the factors."""
    return _each(a, _lu(*a.shape[-2:]))


@formula("aten.linalg_lu_solve", "aten.linalg_ldl_solve")
def solve_factored(factor: TensorSpec, pivots: TensorSpec, b: TensorSpec, *_: Any, out: TensorSpec, **__: Any) -> int:
    """[n, n] factors, [n, k] right sides: two triangles, 2*n^2*k (GETRS, SYTRS)."""
    return _with_right_sides(factor, out, 2)


@formula("aten._linalg_solve_ex")
def solve(a: TensorSpec, b: TensorSpec, *_: Any, out: Sequence[TensorSpec], **__: Any) -> int:
    """[n, n], [n, k] right sides: 2*n^3/3 + 2*n^2*k (GETRF, GETRS)."""
    return lu(a) + _with_right_sides(a, out[0], 2)


@formula("aten.linalg_inv_ex")
def inverse(a: TensorSpec, *_: Any, **__: Any) -> int:
    """[n, n]: 2*n^3 (GETRF, GETRI)."""
    return _each(a, 6 * a.shape[-1] ** 3)


@formula("aten.linalg_solve_triangular")
def solve_triangular(a: TensorSpec, b: TensorSpec, *_: Any, out: TensorSpec, **__: Any) -> int:
    """[n, n] triangle, [n, k] right sides: n^2*k (TRSM)."""
    return _with_right_sides(a, out, 1)


@formula("aten.triangular_solve")
def triangular_solve(b: TensorSpec, a: TensorSpec, *_: Any, out: Sequence[TensorSpec], **__: Any) -> int:
    """As solve_triangular, the right sides first."""
    return _with_right_sides(a, out[0], 1)


@formula("aten.geqrf")
def reflectors(a: TensorSpec, *_: Any, **__: Any) -> int:
    """[m, n], m >= n: 2*m*n^2 - 2*n^3/3 (GEQRF)."""
    return _each(a, _qr(*a.shape[-2:]))


@formula("aten.linalg_qr")
def qr(a: TensorSpec, mode: str = "reduced", *_: Any, **__: Any) -> int:
    """[m, n]: R as reflectors, and the columns of Q that the mode asks for: none, min(m, n) or m (GEQRF, ORGQR)."""
    m, n = a.shape[-2:]
    k = min(m, n)
    columns = {"r": 0, "reduced": k, "complete": m}[mode]
    return _each(a, _qr(m, n) + (_columns_of_q(m, columns, k) if columns else 0))


@formula("aten.linalg_householder_product")
def householder_product(a: TensorSpec, tau: TensorSpec, *_: Any, **__: Any) -> int:
    """[m, n] columns out of k reflectors: 4*m*n*k - 2*(m + n)*k^2 + 4*k^3/3 (ORGQR)."""
    return _each(a, _columns_of_q(a.shape[-2], a.shape[-1], tau.shape[-1]))


@formula("aten.ormqr")
def multiply_by_q(a: TensorSpec, tau: TensorSpec, c: TensorSpec, left: bool = True, *_: Any, **__: Any) -> int:
    """[m, n] by k reflectors from the left: 4*m*n*k - 2*n*k^2; from the right with m and n swapped (ORMQR)."""
    m, n = c.shape[-2:] if left else c.shape[-1:-3:-1]
    k = tau.shape[-1]
    return _each(c, 3 * (4 * m * n * k - 2 * n * k**2))


@formula("aten.linalg_lstsq")
def least_squares(a: TensorSpec, b: TensorSpec, *_: Any, out: Sequence[TensorSpec], **__: Any) -> int:
    """[m, n], k right sides: QR, Q^T to the right sides, a triangle, whichever driver runs (GEQRF, ORMQR, TRSM).

    With n the smaller of both sizes: 2*m*n^2 - 2*n^3/3 + (4*m*n - 2*n^2)*k + n^2*k.
    """
    m, n = max(a.shape[-2:]), min(a.shape[-2:])
    batch = prod(a.shape[:-2])
    columns = out[0].numel // (batch * a.shape[-1]) if out[0].numel else 0
    return _each(a, _qr(m, n) + 3 * (4 * m * n - n**2) * columns)


@formula("aten._linalg_eigh")
def eigh(a: TensorSpec, triangle: str = "L", vectors: bool = True, **_: Any) -> int:
    """Symmetric [n, n]: 9*n^3 with eigenvectors, 4*n^3/3 without (GVL 8.3, the QR algorithm)."""
    return _each(a, (27 if vectors else 4) * a.shape[-1] ** 3)


@formula("aten.linalg_eig")
def eig(a: TensorSpec, **_: Any) -> int:
    """[n, n]: 25*n^3 with eigenvectors (GVL 7.5, the QR algorithm with Q)."""
    return _each(a, 75 * a.shape[-1] ** 3)


@formula("aten.linalg_eigvals", "aten._linalg_eigvals")
def eigvals(a: TensorSpec, **_: Any) -> int:
    """[n, n]: 25*n^3 as ``eig``, since torch computes the vectors too while ops are watched.

    Without vectors it would be 10*n^3 (GVL 7.5). Only inference mode delivers this op, elsewhere torch calls ``eig``.
    """
    return eig(a)


@formula("aten._linalg_svd", "prims.svd")
def svd(a: TensorSpec, full_matrices: bool = False, compute_uv: bool = True, **_: Any) -> int:
    """[m, n], n the smaller: the cheaper of Golub-Reinsch and of QR first (GVL figure 8.6.1).

    Values 4mn^2 - 4n^3/3 or 2mn^2 + 2n^3; thin vectors 14mn^2 + 8n^3 or 6mn^2 + 20n^3, or as full ones;
    full vectors 4m^2*n + 8mn^2 + 9n^3 or 4m^2*n + 22n^3.
    """
    vectors = ("full" if full_matrices else "thin") if compute_uv else "none"
    return _each(a, _svd(a.shape[-2], a.shape[-1], vectors))


@formula("aten.linalg_pinv")
def pseudoinverse(a: TensorSpec, *_: Any, hermitian: bool = False, **__: Any) -> int:
    """[m, n]: thin singular vectors (eigenvectors if hermitian), and their product 2*m*n*min(m, n)."""
    m, n = a.shape[-2:]
    return (eigh(a) if hermitian else svd(a)) + _each(a, 6 * m * n * min(m, n))


@formula("aten.linalg_polar")
def polar(a: TensorSpec, *_: Any, **__: Any) -> int:
    """[m, n], m >= n: thin singular vectors U S V^H, then U V^H is 2*m*n^2 and V S V^H is 2*n^3.

    CUDA may run another algorithm (QDWH, which iterates): the same call counts the same everywhere.
    """
    m, n = a.shape[-2:]
    return svd(a) + _each(a, 6 * m * n**2 + 6 * n**3)


@formula("aten.linalg_matrix_sqrth")
def matrix_square_root(a: TensorSpec, *_: Any, **__: Any) -> int:
    """Symmetric [n, n]: 11*n^3, of which eigenvectors V and eigenvalues L are 9*n^3 and V sqrt(L) V^H is 2*n^3."""
    return eigh(a) + _each(a, 6 * a.shape[-1] ** 3)


@formula("aten.linalg_matrix_exp")
def matrix_exp(a: TensorSpec, *_: Any) -> int:
    """[n, n]: 10*n^3, five products for a Taylor polynomial of degree 18 (Bader, Blanes and Casas, 2019).

    How often the result is squared afterwards, or that a lower degree is enough, follows from values: left out.
    """
    return _each(a, 30 * a.shape[-1] ** 3)
