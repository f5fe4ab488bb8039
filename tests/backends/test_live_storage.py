"""The peak of live storage bytes: small programs by hand, random ones against a model in plain Python."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.testing._internal.two_tensor import TwoTensor

from pytest_flopguard.backends.base import Unavailable
from pytest_flopguard.backends.dispatch import DispatchFlops
from pytest_flopguard.backends.live_storage import LiveStorage
from pytest_flopguard.backends.op_watch import OpWatch
from pytest_flopguard.core.measurement import CATEGORIES, MemoryPeak
from pytest_flopguard.formulas.registry import Registry

Peaks = Callable[..., tuple[MemoryPeak, ...]]


def size(number: int) -> Tensor:
    """Make a tensor of that many bytes."""
    return torch.empty(number, dtype=torch.uint8)


@pytest.fixture
def peaks(costs: Registry) -> Peaks:
    """Return the peaks of a program, whose categories sum to them."""

    def peaks(program: Callable[[], Any]) -> tuple[MemoryPeak, ...]:
        with LiveStorage(OpWatch(costs)) as memory:
            scope = memory.begin()
            program()
            found = memory.end(scope)
        assert isinstance(found, tuple), found
        for each in found:
            assert sum(each.by_category.values()) == each.peak_bytes
            assert tuple(each.by_category) == CATEGORIES
            assert (each.backend, each.index) == ("live-storage", 0)
        return found

    return peaks


@pytest.fixture
def peak(peaks: Peaks) -> Callable[[Callable[[], Any]], tuple[int, int]]:
    """Return the bytes at the start and at the peak of a program that uses one device."""

    def peak(program: Callable[[], Any]) -> tuple[int, int]:
        (found,) = peaks(program)
        return found.start_bytes, found.peak_bytes

    return peak


Peak = Callable[[Callable[[], Any]], tuple[int, int]]


def test_bytes_live_together_while_their_tensors_do(peak: Peak) -> None:
    def program() -> None:
        a = size(100)
        b = size(50)
        del a
        c = size(70)
        del b, c
        size(120)

    # 100, 150, 50, 120, 0, 120: the most is after the second.
    assert peak(program) == (0, 150)


def test_views_and_in_place_ops_take_nothing(peak: Peak) -> None:
    def program() -> None:
        a = size(100)
        views = [a.view(10, 10), a[3:], a.unsqueeze(0), a.expand(5, 100), a.detach(), a.split(10)]
        a.add_(1).mul_(2)
        views[0].fill_(1)
        a.contiguous()
        a.reshape(50, 2)

    assert peak(program) == (0, 100)


def test_a_view_keeps_the_whole_storage(peak: Peak) -> None:
    def program() -> None:
        a = size(100)
        part = a[:1]
        del a
        size(10)
        del part
        size(105)

    # 100 and 10 together, for the byte that is left holds all.
    assert peak(program) == (0, 110)


def test_results_of_ops_count_as_they_are(peak: Peak) -> None:
    # 4 * 8 floats, 8 * 2 floats, and [4, 2] of them: 128 + 64 + 32.
    assert peak(lambda: torch.ones(4, 8) @ torch.ones(8, 2)) == (0, 224)
    # 40 bytes, then 10 bools of what is compared, beside each other.
    assert peak(lambda: torch.zeros(10) > 0) == (0, 50)
    # Ten floats at once, in two results of five.
    assert peak(lambda: torch.sort(torch.zeros(5))) == (0, 20 + 20 + 40)


def test_an_intermediate_that_is_dropped_is_given_back(peak: Peak) -> None:
    def program() -> None:
        a = size(100)
        for _ in range(5):
            a = a + 1

    assert peak(program) == (0, 200)


def test_what_a_storage_is_made_of_out_of_sight_is_seen(peak: Peak) -> None:
    def program() -> None:
        rows = torch.tensor([1.0, 2.0, 3.0])
        torch.cat([rows, torch.tensor([4, 5])])

    # 3 floats, 2 int64, 5 floats. Nothing was there at the start.
    assert peak(program) == (0, 12 + 16 + 20)


def test_what_was_there_before_counts_from_the_start_once_it_is_used(peak: Peak) -> None:
    before, never = size(1000), size(10_000)

    def program() -> None:
        size(300)
        other = size(200)
        before.add_(1)
        del other
        size(250)

    # 300 beside 1000 is the most, though 1000 shows later only.
    assert peak(program) == (1000, 1300)
    assert never.numel() == 10_000


def test_what_dies_inside_was_there_at_the_start(peak: Peak) -> None:
    tensors = [size(1000)]

    def program() -> None:
        tensors[0].add_(1)
        tensors.clear()
        size(400)

    assert peak(program) == (1000, 1000)


@pytest.mark.parametrize(
    ("grow", "expected"),
    [
        # 150 next to the old 100, from which they are copied.
        (lambda a: a.resize_(150), 250),
        # The same without an op call.
        (lambda a: a.untyped_storage().resize_(150), 250),
        # 150 next to the old 100.
        (lambda a: a.set_(size(150)), 250),
        # 150 zeros, and 150 for the result next to the old 100.
        (lambda a: torch.add(torch.zeros(150, dtype=torch.uint8), 0, out=a.resize_(0)), 400),
    ],
)
def test_a_storage_may_grow_in_every_way(peak: Peak, grow: Callable[[Tensor], Any], expected: int) -> None:
    def program() -> None:
        a = size(100)
        grow(a)
        a.add_(1)
        other = size(30)
        a.untyped_storage().resize_(10)
        a.resize_(10)
        size(100)
        del other

    assert peak(program) == (0, expected)


def test_devices_and_fake_tensors_are_told_apart(peaks: Peaks) -> None:
    def program() -> None:
        real, meta = size(10), torch.empty(20, dtype=torch.uint8, device="meta")
        with FakeTensorMode():
            fake = size(40)
            fake_gpu = torch.empty(80, dtype=torch.uint8, device="cuda")
        for each in (real, meta, fake, fake_gpu):
            each.clone()

    found = [(each.device, each.start_bytes, each.peak_bytes) for each in peaks(program)]
    # The largest first; each beside its clone.
    assert found == [("fake:cuda", 0, 160), ("fake:cpu", 0, 80), ("meta", 0, 40), ("cpu", 0, 20)]


def test_a_program_without_tensors_has_no_peak(peaks: Peaks) -> None:
    assert peaks(lambda: None) == ()
    assert peaks(lambda: torch.empty(0).clone()) == ()


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors", "ignore:Sparse CSR tensor support")
@pytest.mark.parametrize(
    ("make", "double", "start", "growth"),
    [
        # Two tensors of 3 floats, and two more.
        (lambda: TwoTensor(torch.ones(3), torch.ones(3)), lambda x: x * 2, 24, 24),
        # 3 values and 2x3 int64 indices; a sum lists the entries of both.
        (lambda: torch.eye(3).to_sparse(), lambda x: x + x, 12 + 48, 2 * (12 + 48)),
        # The indices of the sum are those of its operands. One row of the columns' storage is not in use. From torch
        # 2.15 on the sum has indices of its own: 4 offsets and 3 columns.
        (
            lambda: torch.eye(3).to_sparse_csr(),
            lambda x: x + x,
            12 + 8 * 4 + 48,
            12 + (8 * 4 + 8 * 3 if torch.__version__ >= (2, 15) else 0),
        ),
        # 5 floats and 3 int64 offsets, which both share.
        (
            lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)], layout=torch.jagged),
            lambda x: x * 2,
            20 + 24,
            20,
        ),
    ],
    ids=["wrapper", "coo", "csr", "jagged"],
)
def test_tensors_made_of_tensors(costs: Registry, make: Any, double: Any, start: int, growth: int) -> None:
    made = make()
    with LiveStorage(OpWatch(costs)) as memory:
        scope = memory.begin()
        doubled = double(made)
        found = memory.end(scope)
    assert isinstance(found, tuple)
    assert [(each.start_bytes, each.growth_bytes) for each in found] == [(start, growth)]
    del doubled


@pytest.mark.parametrize(
    ("program", "kind"),
    [
        (lambda: torch.eye(3).to_mkldnn().relu(), "torch._mkldnn"),
    ],
)
def test_tensors_that_cannot_be_followed_leave_no_number(costs: Registry, program: Any, kind: str) -> None:
    with LiveStorage(OpWatch(costs)) as memory:
        scope = memory.begin()
        program()
        found = memory.end(scope)
    assert isinstance(found, Unavailable)
    assert found.name == "live-storage"
    assert found.reason == f"the storage of these tensors cannot be followed: {kind}"
    with memory:
        scope = memory.begin()
        size(5)
        assert isinstance(memory.end(scope), tuple)


def test_regions_nest_and_follow_each_other(costs: Registry) -> None:
    with LiveStorage(OpWatch(costs)) as memory:
        kept = size(10)
        outer = memory.begin()
        size(100)
        inner = memory.begin()
        held = size(30)
        (inner_peak,) = memory.end(inner)  # type: ignore[misc]
        after = memory.begin()
        del held
        size(5)
        (after_peak,) = memory.end(after)  # type: ignore[misc]
        (outer_peak,) = memory.end(outer)  # type: ignore[misc]
        assert kept.numel() == 10
    assert (outer_peak.start_bytes, outer_peak.peak_bytes) == (10, 110)
    assert (inner_peak.start_bytes, inner_peak.peak_bytes) == (10, 40)
    # Ended and begun at 40.
    assert (after_peak.start_bytes, after_peak.peak_bytes) == (40, 40)


def test_the_watch_of_an_engine_is_shared_and_its_own_is_entered(costs: Registry) -> None:
    engine = DispatchFlops(costs)
    with engine, LiveStorage(engine.watch) as memory:
        marks = engine.begin(), memory.begin()
        torch.ones(4, 8) @ torch.ones(8, 2)
        assert engine.end(marks[0]).total == 128
        (found,) = memory.end(marks[1])  # type: ignore[misc]
        assert found.peak_bytes == 224
    assert not engine.watch.active
    alone = OpWatch(costs)
    with LiveStorage(alone):
        assert alone.active
    assert not alone.active


def test_nothing_is_kept_alive(costs: Registry) -> None:
    gc.disable()
    try:
        with LiveStorage(OpWatch(costs)) as memory:
            scope = memory.begin()
            a = size(100)
            a.resize_(200)
            storage = weakref.ref(a.untyped_storage())
            tensor = weakref.ref(a)
            del a
            assert (storage(), tensor()) == (None, None)
            memory.end(scope)
    finally:
        gc.enable()


def test_a_storage_that_outlives_the_watch_is_let_go(costs: Registry) -> None:
    with LiveStorage(OpWatch(costs)) as memory:
        kept = size(100)
    with memory:
        scope = memory.begin()
        # It dies under the second watch, which has not seen it.
        del kept
        size(10)
        (found,) = memory.end(scope)  # type: ignore[misc]
    assert (found.start_bytes, found.peak_bytes) == (0, 10)


def test_many_short_lives_are_not_remembered(costs: Registry) -> None:
    with LiveStorage(OpWatch(costs)) as memory:
        scope = memory.begin()
        for number in range(20_001):
            # Each is the largest so far, so it dies at the peak.
            size(number + 1)
        assert len(memory._dead) < 10_001
        (found,) = memory.end(scope)  # type: ignore[misc]
    assert found.peak_bytes == sum(found.by_category.values()) == 20_001
