"""Bytes moved: inputs read once, outputs written once. Four bytes an element here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from pytest_flopguard.backends.dispatch import DispatchFlops
from pytest_flopguard.core.traffic import ByteTally
from pytest_flopguard.formulas.registry import default_registry


def moved(function: Callable[[], Any]) -> ByteTally:
    with DispatchFlops(default_registry()) as engine:
        engine.follow_bytes()
        mark = engine.begin()
        function()
        tally = engine.end(mark).bytes_moved
    assert tally is not None
    return tally


X = torch.zeros(16, 8)
TABLE = torch.zeros(1000, 8)
ROWS = torch.tensor([3, 5])  # 16 bytes: two int64
SQUARE = torch.zeros(16, 16)


def in_place(function: Callable[[torch.Tensor], Any]) -> Callable[[], Any]:
    own = torch.zeros(16, 8)
    return lambda: function(own)


@pytest.mark.parametrize(
    ("function", "read", "written"),
    [
        (lambda: X @ X.T, 4 * 128 * 2, 4 * 256),  # the transpose is a tensor of its own, a rename of the same bytes
        (lambda: X + X, 4 * 128, 4 * 128),  # given twice, read once
        (lambda: X + 1, 4 * 128, 4 * 128),
        (lambda: X.view(8, 16).transpose(0, 1), 0, 0),  # renames
        (lambda: X.clone(), 4 * 128, 4 * 128),
        (lambda: X + torch.broadcast_to(X[:1], (16, 8)), 4 * (128 + 8), 4 * 128),  # one row is stored, and read
        (lambda: X.sum(), 4 * 128, 4),
        (lambda: torch.empty(16, 8), 0, 0),  # allocated, not written
        (lambda: torch.zeros(16, 8), 0, 4 * 128),
        (lambda: nn.functional.embedding(ROWS, TABLE), 16 + 4 * 16, 4 * 16),  # two rows of the table
        (lambda: TABLE.index_select(0, ROWS), 16 + 4 * 16, 4 * 16),
        (in_place(lambda own: own.add_(1)), 4 * 128, 4 * 128),
        (in_place(lambda own: own.copy_(X)), 4 * 128, 4 * 128),
        (in_place(lambda own: own.zero_()), 0, 4 * 128),
        (in_place(lambda own: own.index_copy_(0, ROWS, X[:2])), 16 + 4 * 32, 4 * 16),
        (in_place(lambda own: torch.add(X, 1, out=own)), 4 * 128, 4 * 128),
        (lambda: torch.max(X, 1), 4 * 128, 16 * (4 + 8)),  # values and int64 indices
    ],
)
def test_each_call_reads_and_writes_once(function: Callable[[], Any], read: int, written: int) -> None:
    tally = moved(function)
    assert [sum(each.read for each in tally.counts), sum(each.written for each in tally.counts)] == [read, written]
    assert tally.total == read + written


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_by_module_and_phase(device: str) -> None:
    with torch.device(device):
        model, x = nn.Sequential(nn.Linear(8, 32, bias=False), nn.ReLU()), torch.zeros(16, 8)
    tally = moved(lambda: model(x).sum().backward())
    # Linear forward: [16, 8] and [32, 8] read, [16, 32] written. ReLU: [16, 32] read, as much written.
    forward = {(each.module, each.phase): each.moved for each in tally.counts if each.phase == "forward"}
    assert forward["Sequential.0", "forward"] == 4 * (128 + 256 + 512)
    assert forward["Sequential.1", "forward"] == 4 * (512 + 512)
    # Backward: dY [16, 32] and x [16, 8] give dW [32, 8], which is then taken as the gradient without a copy.
    backward = {(each.module, each.phase): each.moved for each in tally.counts if each.phase == "backward"}
    assert backward["Sequential.0", "backward"] == 4 * (512 + 128 + 256)


def test_a_region_tells_its_own_bytes_only() -> None:
    with DispatchFlops(default_registry()) as engine:
        engine.follow_bytes()
        outer = engine.begin()
        X.clone()
        inner = engine.begin()
        X.clone()
        first, second = engine.end(inner).bytes_moved, engine.end(outer).bytes_moved
    assert first is not None
    assert second is not None
    assert (first.total, second.total) == (4 * 256, 4 * 512)


def test_nobody_asked() -> None:
    with DispatchFlops(default_registry()) as engine:
        mark = engine.begin()
        X.clone()
        assert engine.end(mark).bytes_moved is None


def test_what_has_no_storage_is_told() -> None:
    tally = moved(lambda: SQUARE.to_sparse() @ X)
    assert tally.total is None
    assert any("sparse" in each or "mm" in each for each in tally.unknown)
