"""Functions of torch 2.14 that factorise and multiply in one op, against the same done by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.torch_version import TorchVersion

from pytest_flopguard.core.measurement import FlopTally

Tally = Callable[[Callable[[], Any]], FlopTally]

pytestmark = pytest.mark.skipif(
    TorchVersion(torch.__version__) < TorchVersion("2.14"), reason="torch.linalg.polar is new in torch 2.14"
)


def polar(a: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    left, values, right = torch.linalg.svd(a, full_matrices=False)
    return left @ right, (right.mH * values[..., None, :]) @ right


def square_root(a: torch.Tensor) -> torch.Tensor:
    values, vectors = torch.linalg.eigh(a)
    return (vectors * values.sqrt()[..., None, :]) @ vectors.mH


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
@pytest.mark.parametrize("shape", [(7, 4), (5, 5), (2, 3, 6, 2)])
def test_polar_is_an_svd_and_two_products(tally: Tally, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    a = torch.randn(shape, dtype=dtype)
    torch.testing.assert_close(tuple(torch.linalg.polar(a)), polar(a))
    one, parts = tally(lambda: torch.linalg.polar(a)), tally(lambda: polar(a))
    assert one.unknown_ops == ()
    assert one.total == parts.total > 0


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
@pytest.mark.parametrize("shape", [(5, 5), (2, 3, 4, 4)])
def test_a_square_root_is_eigh_and_a_product(tally: Tally, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    a = torch.randn(shape, dtype=dtype)
    a = a @ a.mH + torch.eye(shape[-1], dtype=dtype)
    torch.testing.assert_close(torch.linalg.matrix_sqrth(a), square_root(a))
    one, parts = tally(lambda: torch.linalg.matrix_sqrth(a)), tally(lambda: square_root(a))
    assert one.unknown_ops == ()
    assert one.total == parts.total > 0


def test_training_knows_every_op(tally: Tally) -> None:
    a = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    assert tally(lambda: sum(each.sum() for each in torch.linalg.polar(a)).backward()).unknown_ops == ()
    b = (a.detach().mT @ a.detach() + torch.eye(3, dtype=torch.float64)).requires_grad_()
    assert tally(lambda: torch.linalg.matrix_sqrth(b).sum().backward()).unknown_ops == ()
