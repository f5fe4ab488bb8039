"""Threads that a test starts: counted as the test's own, or told where they cannot be seen."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

from pytest_flopguard.backends.dispatch import DispatchFlops
from pytest_flopguard.backends.live_storage import LiveStorage
from pytest_flopguard.core.measurement import FlopTally, MemoryPeak
from pytest_flopguard.formulas.registry import Registry

Count = Callable[[Callable[[], Any]], FlopTally]
# [4, 8] @ [8, 8]: 2 * 4 * 8 * 8
PRODUCT = 512


def in_thread(*functions: Callable[[], Any]) -> None:
    """Run functions in a thread each, side by side, and wait for them."""
    threads = [threading.Thread(target=each) for each in functions]
    for each in threads:
        each.start()
    for each in threads:
        each.join()


def model() -> nn.Sequential:
    return nn.Sequential(nn.Linear(8, 8, bias=False), nn.ReLU(), nn.Linear(8, 8, bias=False))


def data() -> Tensor:
    return torch.ones(4, 8, requires_grad=True)


@pytest.mark.parametrize(
    "program",
    [
        lambda: model()(data()),
        lambda: data() @ torch.ones(8, 8) @ torch.ones(8, 8),
    ],
    ids=["modules", "a function"],
)
def test_work_in_a_thread_is_counted(count: Count, program: Callable[[], Any]) -> None:
    tally = count(lambda: in_thread(program))
    assert (tally.forward, tally.backward, tally.unknown_ops) == (2 * PRODUCT, 0, ())


def test_training_in_a_thread_is_counted_with_its_modules(count: Count) -> None:
    tally = count(lambda: in_thread(lambda: model()(data()).sum().backward()))
    assert (tally.forward, tally.backward) == (2 * PRODUCT, 4 * PRODUCT)
    assert tally.by_module() == {"Sequential.0": 3 * PRODUCT, "Sequential.2": 3 * PRODUCT}


def test_a_backward_in_another_thread_is_counted_with_its_modules(count: Count) -> None:
    def program() -> None:
        loss = model()(data()).sum()
        in_thread(loss.backward)

    tally = count(program)
    assert (tally.forward, tally.backward) == (2 * PRODUCT, 4 * PRODUCT)
    assert tally.by_module() == {"Sequential.0": 3 * PRODUCT, "Sequential.2": 3 * PRODUCT}


def test_replicas_side_by_side_are_counted_each(count: Count) -> None:
    replicas = [model() for _ in range(4)]

    def program() -> None:
        outputs: list[Tensor] = []
        in_thread(*[lambda each=each: outputs.append(each(data())) for each in replicas])
        torch.stack(outputs).sum().backward()

    tally = count(program)
    assert (tally.forward, tally.backward) == (4 * 2 * PRODUCT, 4 * 4 * PRODUCT)
    # Nodes of several threads cannot be told apart: their backward is no module's.
    assert tally.by_module()[""] == 4 * 4 * PRODUCT
    assert len(tally.by_module()) == 1 + 4 * 2


def test_a_part_that_runs_in_a_thread_keeps_its_name(count: Count) -> None:
    class Side(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(8, 8, bias=False), nn.Linear(8, 8, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            with ThreadPoolExecutor(2) as pool:
                a, b = pool.map(lambda part: part(x), (self.a, self.b))
            return a @ b.T

    tally = count(lambda: Side()(data()))
    # [4, 8] @ [8, 4] in the module itself: 2*4*8*4.
    assert tally.by_module() == {"Side.a": PRODUCT, "Side.b": PRODUCT, "Side": 256}


@pytest.fixture
def busy() -> Iterator[None]:
    """Switch threads as often as Python can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("busy")
def test_no_call_is_lost_between_threads(costs: Registry) -> None:
    a = torch.ones(2, 2)

    def work() -> None:
        for _ in range(400):
            (a @ a).relu()

    engine = DispatchFlops(costs)
    with engine, LiveStorage(engine.watch) as memory:
        marks = engine.begin(), memory.begin()
        in_thread(*[work] * 4)
        tally, peaks = engine.end(marks[0]), memory.end(marks[1])
        after = memory.end(memory.begin())
    # [2, 2] @ [2, 2] is 16 FLOPs.
    assert tally.total == 4 * 400 * 16
    assert tally.calls_of("counted") == {"aten.mm": 1600}
    assert tally.calls_of("uncounted") == {"aten.relu": 1600}
    assert isinstance(peaks, tuple)
    assert isinstance(after, tuple)
    # 16 bytes of a are left, and each thread held its product and its relu at most.
    assert [(each.device, each.start_bytes) for each in after] == [("cpu", 16)]
    (peak,) = peaks
    assert isinstance(peak, MemoryPeak)
    assert 16 + 32 <= peak.peak_bytes <= 16 + 4 * 48


def test_a_pool_that_outlives_the_test_is_seen_in_the_next_and_let_go_by_between(costs: Registry) -> None:
    engine = DispatchFlops(costs)
    with ThreadPoolExecutor(1) as pool:
        for _ in range(2):
            with engine:
                mark = engine.begin()
                pool.submit(model(), data()).result()
                assert engine.end(mark).total == 2 * PRODUCT
            pool.submit(model(), data()).result()
            assert engine.end(mark).total is not None
        assert pool.submit(torch.ones, 3).result().sum() == 3


def test_modules_in_a_thread_that_was_there_before_are_told(costs: Registry) -> None:
    net = model()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(int).result()
        with DispatchFlops(costs) as engine:
            first = engine.begin()
            pool.submit(net, data()).result()
            net(data())
            tally = engine.end(first)
            second = engine.begin()
            with engine.paused():
                pool.submit(net, data()).result()
            assert engine.end(second).unknown_ops == ()
    # Each of the four modules of the thread's call; what this thread does is counted.
    (unknown,) = tally.unknown_ops
    assert (unknown.op, unknown.calls, unknown.phase) == ("python.thread", 4, "forward")
    assert unknown.reason == "op calls of threads that started before the test are not seen"
    assert (tally.total, tally.at_least) == (None, 2 * PRODUCT)


def test_a_crash_in_a_thread_disturbs_no_other(count: Count) -> None:
    caught = []

    def crash() -> None:
        try:
            model()(torch.ones(4, 5))
        except RuntimeError as error:
            caught.append(error)
        model()(data())

    def program() -> None:
        in_thread(crash)
        model()(data())

    tally = count(program)
    assert len(caught) == 1
    assert tally.total == 2 * 2 * PRODUCT
    assert _get_current_dispatch_mode_stack() == []


def test_a_profiler_of_the_users_is_kept_and_called(count: Count) -> None:
    seen: list[str] = []

    def profile(frame: Any, event: str, arg: Any) -> None:
        seen.append(frame.f_code.co_name)

    def marked() -> None:
        data() @ torch.ones(8, 8)

    threading.setprofile(profile)
    try:
        assert count(lambda: in_thread(marked)).total == PRODUCT
        assert threading.getprofile() == profile
    finally:
        threading.setprofile(None)
    assert {"run", "marked"} <= set(seen)
    assert count(lambda: in_thread(marked)).total == PRODUCT
    assert threading.getprofile() is None


def test_a_profiler_that_comes_in_the_test_stays(count: Count) -> None:
    def profile(frame: Any, event: str, arg: Any) -> None: ...

    try:
        count(lambda: threading.setprofile(profile))
        assert threading.getprofile() == profile
    finally:
        threading.setprofile(None)


def test_a_thread_is_profiled_no_longer_than_it_takes_to_see_it(count: Count) -> None:
    found = []
    count(lambda: in_thread(lambda: found.append(sys.getprofile())))
    assert found == [None]
