"""Bytes moved: inputs read once, outputs written once. Four bytes an element here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
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


def amounts(function: Callable[[], Any]) -> tuple[int, int]:
    tally = moved(function)
    assert tally.unknown == ()
    return sum(each.read for each in tally.counts), sum(each.written for each in tally.counts)


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
        # Written over without a look: two rows.
        (in_place(lambda own: own.index_copy_(0, ROWS, X[:2])), 16 + 4 * 16, 4 * 16),
        (in_place(lambda own: torch.add(X, 1, out=own)), 4 * 128, 4 * 128),
        (lambda: torch.max(X, 1), 4 * 128, 16 * (4 + 8)),  # values and int64 indices
    ],
)
def test_each_call_reads_and_writes_once(function: Callable[[], Any], read: int, written: int) -> None:
    assert amounts(function) == (read, written)
    assert moved(function).total == read + written


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize(
    ("function", "elements"),
    [
        (torch.zeros_like, 128),
        (torch.ones_like, 128),
        (lambda x: torch.full_like(x, 2.0), 128),
        (torch.rand_like, 128),
        (torch.randn_like, 128),
        (lambda x: torch.randint_like(x, 3), 128),
        (lambda x: x.new_zeros(3), 3),
        (lambda x: x.new_ones(3), 3),
        (lambda x: x.new_full((3,), 2.0), 3),
        (torch.empty_like, 0),
        (lambda x: x.new_empty(3), 0),
        (lambda x: x.new_empty_strided((3,), (2,)), 0),
    ],
)
def test_a_template_is_not_read(function: Callable[[torch.Tensor], Any], elements: int, device: str) -> None:
    template = torch.zeros(16, 8, device=device)
    assert amounts(lambda: function(template)) == (0, 4 * elements)


def test_a_template_that_is_given_a_bound_reads_the_bound() -> None:
    assert amounts(lambda: torch.randint_like(X, torch.tensor(3))) == (8, 4 * 128)


def test_the_first_gradient_is_written_without_a_look() -> None:
    x = torch.zeros((), requires_grad=True)
    # y = 2 * x reads and writes 4 bytes; ones_like writes the first gradient; times 2 reads and writes it.
    assert amounts(lambda: (2 * x).backward()) == (8, 12)


THREE = torch.tensor([3, 5, 7])  # 24 bytes
PLACES = torch.tensor([[1, 2, 3]])  # one place in each of three columns, 24 bytes
MASK = torch.arange(128).view(16, 8) % 32 == 0  # 128 bytes, true 4 times


def assign(places: Any, value: Any) -> Callable[[torch.Tensor], None]:
    return lambda own: own.__setitem__(places, value)


def put(indices: Callable[..., Any]) -> Callable[..., Any]:
    return lambda own, ix, at: own.index_put_(indices(ix, at), own.new_empty(()))


def test_an_assignment_writes_the_rows_that_it_names() -> None:
    table, number = torch.zeros(100, 8), torch.tensor(0.5)
    # Three rows of 8, the indices and a number of 4 bytes.
    assert amounts(lambda: table.__setitem__(THREE, number)) == (24 + 4, 96)


def test_a_plain_number_is_assigned_as_torch_does_it() -> None:
    table = torch.zeros(100, 8)
    # Up to torch 2.14 the number comes as a tensor of 4 bytes and 4 elements are written; 2.15 fills: it keeps the
    # number to itself, and a mask makes it read and write all 512 bytes.
    fills = torch.__version__ >= (2, 15)
    assert amounts(lambda: table.__setitem__(THREE, 0.5)) == (24 if fills else 28, 96)
    assert amounts(in_place(assign(MASK, 0.5))) == ((128 + 512, 512) if fills else (128 + 4, 16))


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize(
    ("function", "read", "written"),
    [
        # Three rows of 8, the indices, and one number.
        (put(lambda ix, at: (ix,)), 24 + 4, 96),
        (lambda own, ix, at: own.index_put_((ix,), own.new_empty(3, 8)), 24 + 96, 96),
        (lambda own, ix, at: own.index_put_((ix,), own.new_empty(3, 8), accumulate=True), 24 + 96 + 96, 96),
        # Three columns of 100; three elements; three by three.
        (lambda own, ix, at: own.__setitem__((slice(None), ix), own.new_empty(())), 24 + 4, 1200),
        (put(lambda ix, at: (ix, at[0])), 24 + 24 + 4, 12),
        (put(lambda ix, at: (ix[:, None], at[0])), 24 + 24 + 4, 36),
        # A slice is a tensor of its own: three rows of two.
        (lambda own, ix, at: own[:, :2].index_put_((ix,), own.new_empty(())), 24 + 4, 24),
        # 150 rows, which are zeros first: no more is written than there is.
        (lambda own, ix, at: own.index_put_((ix.new_zeros(150),), own.new_empty(())), 1200 + 4, 1200 + 3200),
        (lambda own, ix, at: own.scatter_(0, at, 1.0), 24, 12),
        # Of the source as much is read as there are places.
        (lambda own, ix, at: own.scatter_(0, at, own.new_empty(5, 8)), 24 + 12, 12),
        (lambda own, ix, at: own.scatter_(0, at, 1.0, reduce="add"), 24 + 12, 12),
        (lambda own, ix, at: own.scatter_add_(0, at, own.new_empty(5, 8)), 24 + 12 + 12, 12),
        (lambda own, ix, at: own.scatter_reduce_(0, at, own.new_empty(5, 8), "sum"), 24 + 12 + 12, 12),
        (
            lambda own, ix, at: own.scatter_reduce_(0, at, own.new_empty(5, 8), "sum", include_self=False),
            24 + 12,
            12,
        ),
        (lambda own, ix, at: own.index_copy_(0, ix, own.new_empty(3, 8)), 24 + 96, 96),
        (lambda own, ix, at: own.index_fill_(0, ix, 1.0), 24, 96),
        (lambda own, ix, at: own.index_fill_(1, ix, 1.0), 24, 1200),
        (lambda own, ix, at: own.index_add_(0, ix, own.new_empty(3, 8)), 24 + 96 + 96, 96),
        (lambda own, ix, at: own.put_(ix, own.new_empty(3)), 24 + 12, 12),
        (lambda own, ix, at: own.put_(ix, own.new_empty(3), accumulate=True), 24 + 12 + 12, 12),
        # A copy with some of it replaced: all is read and written.
        (lambda own, ix, at: own.index_add(0, ix, own.new_empty(3, 8)), 24 + 96 + 3200, 3200),
        (lambda own, ix, at: own.scatter(0, at, 1.0), 24 + 3200, 3200),
        (lambda own, ix, at: nn.functional.embedding_bag(ix[None], own), 24 + 8 + 96, None),
    ],
)
def test_rows_that_are_written_over_are_not_read(
    function: Callable[..., Any], read: int, written: int | None, device: str
) -> None:
    own, ix, at = torch.zeros(100, 8, device=device), THREE.to(device), PLACES.to(device)
    found = amounts(lambda: function(own, ix, at))
    assert found == (read, found[1] if written is None else written)


def test_a_mask_is_written_where_it_is_true() -> None:
    number = torch.tensor(0.5)
    # The mask and the number are read, 4 elements written.
    assert amounts(in_place(assign(MASK, number))) == (128 + 4, 16)
    # Rows 0, 4, 8 and 12, and two columns of them.
    rows = MASK[:, 0].clone()
    assert amounts(in_place(assign(rows, number))) == (16 + 4, 4 * 32)
    assert amounts(in_place(assign((rows, slice(0, 2)), number))) == (16 + 4, 4 * 8)
    # A mask counts as its indices, which go along with others.
    assert amounts(in_place(assign((rows, torch.tensor([1])), number))) == (16 + 8 + 4, 4 * 4)


@pytest.mark.parametrize("kind", ["without values", "overwritten"])
def test_a_mask_that_nobody_can_read_is_told(kind: str) -> None:
    own = torch.zeros(16, 8, device="meta") if kind == "without values" else MASK.clone()
    mask = torch.zeros(16, 8, dtype=torch.bool, device="meta") if kind == "without values" else own
    tally = moved(lambda: own.index_put_((mask,), own.new_empty(())))
    assert tally.total is None
    assert tally.unknown == ("aten.index_put_.default",)
    assert tally.at_least == 0


@pytest.mark.parametrize(
    ("view", "elements"),
    [
        (torch.arange(10.0).unfold(0, 4, 1), 10),
        # Every second, and windows two apart that cover all, and ones that leave gaps.
        (torch.arange(20.0)[::2].unfold(0, 4, 1), 10),
        (torch.arange(10.0).unfold(0, 4, 2), 10),
        (torch.arange(10.0).unfold(0, 2, 4), 6),
        # Windows of an image, side by side and two apart; the last column of an even width is not met.
        (torch.zeros(6, 6).unfold(0, 3, 1).unfold(1, 3, 1), 36),
        (torch.zeros(6, 6).unfold(0, 3, 2).unfold(1, 3, 2), 25),
        (torch.zeros(5, 7, 9).expand(4, 5, 7, 9), 315),
        (torch.zeros(10, 10, 10)[:, ::3, ::3], 160),
        (torch.zeros(10, 10)[:, ::3].T, 40),
        (torch.zeros(4, 0), 0),
        (torch.zeros(1).expand(3, 3), 1),
    ],
)
def test_a_view_is_read_as_it_is_stored(view: torch.Tensor, elements: int) -> None:
    addresses = {sum(at * by for at, by in zip(place, view.stride(), strict=True)) for place in np.ndindex(*view.shape)}
    assert len(addresses) == elements
    assert amounts(lambda: view.sum()) == (4 * elements, 4)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 12)), max_size=4))
def test_any_view_is_read_exactly_or_told(dims: list[tuple[int, int]]) -> None:
    view = torch.zeros(256).as_strided([size for size, _ in dims], [stride for _, stride in dims])
    addresses = {sum(at * by for at, by in zip(place, view.stride(), strict=True)) for place in np.ndindex(*view.shape)}
    tally = moved(lambda: view.sum())
    assert tally.total in (None, 4 * len(addresses) + 4)


@pytest.mark.parametrize(
    "function",
    [
        lambda own: own.unsqueeze_(0),
        lambda own: own.transpose_(0, 1),
        lambda own: own.set_(X),
        lambda own: own.detach_(),
    ],
)
def test_names_that_change_in_place_move_nothing(function: Callable[[torch.Tensor], Any]) -> None:
    assert amounts(in_place(function)) == (0, 0)


def test_what_is_read_and_then_written_over_is_read() -> None:
    assert amounts(in_place(lambda own: torch.add(own, 1, out=own))) == (512, 512)
    values, indices = torch.zeros(16), torch.zeros(16, dtype=torch.int64)
    assert amounts(lambda: torch.max(X, 1, out=(values, indices))) == (512, 16 * 12)
    rows = torch.zeros(2, 8)
    assert amounts(lambda: torch.index_select(TABLE, 0, ROWS, out=rows)) == (16 + 64, 64)


def test_an_op_of_another_library_is_not_what_its_name_says() -> None:
    with torch.library._scoped_library("flopguardtraffic", "FRAGMENT") as library:
        library.define("gather_empty(Tensor x) -> Tensor")
        library.impl("gather_empty", lambda x: x[:1] + 1, "CPU")
        assert amounts(lambda: torch.ops.flopguardtraffic.gather_empty(X)) == (512, 32)


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


def test_a_region_tells_its_own_unknown_only() -> None:
    with DispatchFlops(default_registry()) as engine:
        engine.follow_bytes()
        outer = engine.begin()
        SQUARE.to_sparse()
        inner = engine.begin()
        X.clone()
        first, second = engine.end(inner).bytes_moved, engine.end(outer).bytes_moved
    assert first is not None
    assert second is not None
    assert (first.total, second.total) == (4 * 256, None)


def test_nobody_asked() -> None:
    with DispatchFlops(default_registry()) as engine:
        mark = engine.begin()
        X.clone()
        assert engine.end(mark).bytes_moved is None


def test_what_has_no_storage_is_told() -> None:
    tally = moved(lambda: SQUARE.to_sparse() @ X)
    assert tally.total is None
    assert any("sparse" in each or "mm" in each for each in tally.unknown)
