"""What is recorded beside the allocator's history. The allocator here is written down; a GPU's is tested below."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from pytest_flopguard.backends.base import Unavailable
from pytest_flopguard.backends.cuda_history import HistoryPeak
from pytest_flopguard.backends.cuda_memory import CudaMemory, raised
from pytest_flopguard.backends.cuda_snapshot import file_name, write_snapshot
from pytest_flopguard.backends.cuda_trace import CudaTrace
from pytest_flopguard.backends.cuda_warm_up import warm_up
from pytest_flopguard.backends.live_storage import LiveStorage
from pytest_flopguard.backends.op_watch import OpWatch
from pytest_flopguard.backends.storage_roles import Role
from pytest_flopguard.core.owners import Owner
from pytest_flopguard.formulas.registry import Registry

MM, ADD = torch.ops.aten.mm.default, torch.ops.aten.add.Tensor
ROOT = Path("/project")


class Allocator:
    """Stands for device 0 of torch.cuda: every allocation that a test makes is an event of its trace."""

    def __init__(self) -> None:
        self.initialized = True
        self.enabled = False
        self.trace: list[dict[str, Any]] = []
        self.resting: list[dict[str, Any]] = []
        self.count = 40  # allocations before anybody looked

    def take(self, address: int, size: int) -> None:
        self.count += 1
        if self.enabled:
            self.trace.append({"action": "alloc", "addr": address, "size": size, "stream": 0, "frames": []})

    def give(self, address: int) -> None:
        if self.enabled:
            self.trace.append({"action": "free_requested", "addr": address, "size": 0, "stream": 0, "frames": []})

    def record(self, enabled: str | None = "all", **options: Any) -> None:
        self.enabled = enabled is not None

    def segments(self) -> list[dict[str, Any]]:
        return [{"device": 0, "address": 0, "stream": 0, "blocks": self.resting}]


@pytest.fixture
def allocator(monkeypatch: pytest.MonkeyPatch) -> Allocator:
    allocator = Allocator()
    cuda = torch.cuda
    monkeypatch.setattr(cuda, "is_initialized", lambda: allocator.initialized)
    monkeypatch.setattr(cuda, "device_count", lambda: 1)
    monkeypatch.setattr(cuda, "current_device", lambda: 0)
    monkeypatch.setattr(cuda, "memory_snapshot", allocator.segments)
    stats = lambda device: {"allocation": {"all": {"allocated": allocator.count}}}  # noqa: E731
    monkeypatch.setattr(cuda, "memory_stats_as_nested_dict", stats)
    monkeypatch.setattr(cuda.memory, "_record_memory_history", allocator.record)
    monkeypatch.setattr(cuda.memory, "_snapshot", lambda: {"segments": [], "device_traces": [allocator.trace]})
    monkeypatch.setattr(torch._C, "_cuda_isHistoryEnabled", lambda: allocator.enabled, raising=False)
    return allocator


def storage(address: int) -> Any:
    return SimpleNamespace(device=torch.device("cuda", 0), data_ptr=lambda: address)


def owner(category: str, module: str, op: str, size: int, blocks: int = 1) -> Owner:
    return Owner(category=category, module=module, op=op, site="", bytes=size, blocks=blocks)


def test_storages_and_ops_find_their_blocks(allocator: Allocator) -> None:
    allocator.resting = [{"state": "active_allocated", "size": 1024, "address": 8, "frames": []}]
    trace = CudaTrace(ROOT)
    region = trace.start()
    assert allocator.enabled
    assert not trace.allocated()
    weight = SimpleNamespace(role=Role("inputs"))
    trace.follow(weight, storage(8))
    allocator.take(100, 2048)  # a workspace
    allocator.take(200, 700)
    made = SimpleNamespace(role=Role("activations", "net.up", MM))
    trace.follow(made, storage(200))
    assert trace.allocated()
    trace.ran(made.role)
    assert not trace.allocated()
    weight.role = Role("parameters", "net.up")  # known later
    allocator.give(100)
    trace.take_snapshot()
    found = trace.peak(0, region)
    assert found is not None
    assert found.timeline == ((0, 1024), (1, 3072), (2, 4096), (3, 2048))
    # 1024 + 2048 + 1024 are blocks; the allocator said 96 more.
    assert set(trace.owners(0, found, 4192)) == {
        owner("parameters", "net.up", "", 1024),
        owner("workspaces", "net.up", "aten.mm", 2048),
        owner("activations", "net.up", "aten.mm", 1024),
        owner("other", "", "(rounded up by the allocator)", 96, 0),
    }
    trace.stop()
    assert not allocator.enabled


def test_an_inner_region_begins_where_the_history_is_by_then(allocator: Allocator) -> None:
    trace = CudaTrace(ROOT)
    outer = trace.start()
    allocator.take(100, 4096)
    allocator.give(100)
    allocator.take(100, 512)
    allocator.resting = [{"state": "active_allocated", "size": 512, "address": 100, "frames": []}]
    inner = trace.start()
    allocator.take(200, 512)
    trace.take_snapshot()
    small, whole = trace.peak(0, inner), trace.peak(0, outer)
    assert small is not None
    assert whole is not None
    assert (small.timeline, small.bytes) == (((0, 512), (1, 1024)), 1024)
    assert whole.bytes == 4096


def test_recording_begins_with_the_first_use_of_cuda(allocator: Allocator) -> None:
    allocator.initialized = False
    trace = CudaTrace(ROOT)
    assert trace.start() is None
    assert not trace.allocated()
    trace.take_snapshot()
    assert (trace.snapshot, trace.peak(0, None)) == (None, None)
    allocator.initialized = True
    allocator.take(100, 512)
    allocator.resting = [{"state": "active_allocated", "size": 512, "address": 100, "frames": []}]
    trace.follow(SimpleNamespace(role=Role("inputs", "", ADD)), storage(100))
    assert allocator.enabled
    trace.take_snapshot()
    found = trace.peak(0, None)
    assert found is not None
    assert trace.owners(0, found, 512) == (owner("inputs", "", "aten.add", 512),)


def test_a_history_that_the_test_records_itself_is_left_alone(allocator: Allocator) -> None:
    allocator.enabled = True
    trace = CudaTrace(ROOT)
    assert trace.start() is None
    allocator.take(100, 512)
    trace.follow(SimpleNamespace(role=Role("inputs")), storage(100))
    trace.take_snapshot()
    assert trace.peak(0, None) is None
    trace.stop()
    assert allocator.enabled


class Listener:
    kind = "cpu"

    def __init__(self) -> None:
        self.followed: list[tuple[Any, int]] = []
        self.ops: list[Role] = []
        self.allocates = True

    def follow(self, live: Any, storage: torch.UntypedStorage) -> None:
        self.followed.append((live, storage.data_ptr()))

    def allocated(self) -> bool:
        return self.allocates

    def ran(self, role: Role) -> None:
        self.ops.append(role)


def test_live_storage_tells_a_listener_of_storages_and_ops(costs: Registry) -> None:
    listener = Listener()
    model = nn.Linear(8, 8, bias=False)
    with LiveStorage(OpWatch(costs)) as memory:
        scope = memory.begin()
        before = torch.ones(4, 8)
        memory.tell_blocks(listener)
        # What is followed already is told at once.
        assert [address for _, address in listener.followed] == [before.data_ptr()]
        out = model(before)
        out.untyped_storage().resize_(4096)
        out.add_(1)
        memory.tell_blocks(None)
        torch.ones(3)
        memory.end(scope)
    roles = [(live.role.category, live.role.module, address) for live, address in listener.followed]
    assert roles[1:] == [
        ("parameters", "Linear", model.weight.data_ptr()),
        ("activations", "Linear", roles[2][2]),
        ("activations", "Linear", out.data_ptr()),
    ]
    assert [(role.module, str(role.func)) for role in listener.ops] == [
        ("Linear", "aten.mm.default"),
        ("", "aten.add_.Tensor"),
    ]


def test_warming_up_is_seen_by_nobody(costs: Registry) -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    with OpWatch(costs) as watch, LiveStorage(watch) as memory:
        scope = memory.begin()
        with torch.no_grad():
            warm_up(watch, "cpu")
        assert memory.end(scope) == ()
        assert (watch.paused, watch.modules.paused, dict(watch.sums)) == (False, False, {})
    assert torch.equal(torch.rand(2), expected)


def test_the_highest_points_of_a_timeline_are_the_measured_peak() -> None:
    blocks = SimpleNamespace(bytes=40)
    history = HistoryPeak(blocks=(blocks,), timeline=((0, 10), (1, 40), (5, 30), (7, 40)), numbers={})  # type: ignore[arg-type]
    assert raised(history, 43) == ((0, 10), (1, 43), (5, 30), (7, 43))


def test_a_snapshot_is_a_pickle_in_a_folder_that_no_repository_takes(tmp_path: Path) -> None:
    path = tmp_path / "new" / "one.pickle"
    snapshot = {"segments": [], "device_traces": [[], [{"action": "alloc", "addr": 0, "size": 1, "stream": 0}]]}
    assert write_snapshot(snapshot, path)
    assert pickle.loads(path.read_bytes()) == snapshot
    assert (path.parent / ".gitignore").read_text() == "*\n"
    assert not write_snapshot({"segments": [], "device_traces": [[], []]}, tmp_path / "two.pickle")
    assert not (tmp_path / "two.pickle").exists()


@pytest.mark.parametrize(
    ("nodeid", "name"),
    [
        ("tests/test_a.py::Test::test_x[1-a/b c]", "tests-test_a.py-Test-test_x-1-a-b-c.pickle"),
        ("../../etc/passwd", "etc-passwd.pickle"),
        ("x" * 500, "x" * 120 + ".pickle"),
    ],
)
def test_a_file_name_is_fit_for_any_file_system(nodeid: str, name: str) -> None:
    assert file_name(nodeid) == name


@pytest.fixture
def followed(costs: Registry) -> Iterator[tuple[LiveStorage, CudaMemory]]:
    torch.zeros(1, device="cuda")
    watch = OpWatch(costs)
    memory = CudaMemory.create(watch)
    assert isinstance(memory, CudaMemory), memory
    memory.warms_up = True
    with watch, LiveStorage(watch) as live, memory:
        live.record_sites(Path(__file__).parent)
        memory.record_sites(Path(__file__).parent)
        yield live, memory


@pytest.mark.gpu
def test_a_training_step_on_a_gpu_has_owners_that_sum(followed: tuple[LiveStorage, CudaMemory], tmp_path: Path) -> None:
    _, memory = followed
    region = memory.begin()
    model = nn.Sequential(nn.Linear(1024, 1024, device="cuda"), nn.ReLU(), nn.Linear(1024, 1024, device="cuda"))
    optimizer = torch.optim.AdamW(model.parameters())
    for _ in range(2):
        model(torch.zeros(512, 1024, device="cuda")).sum().backward()
        optimizer.step()
    peaks = memory.end(region)
    assert not isinstance(peaks, Unavailable)
    peak = next(each for each in peaks if each.index == torch.cuda.current_device())
    assert sum(each.bytes for each in peak.owners) == peak.peak_bytes
    assert max(size for _, size in peak.timeline) == peak.peak_bytes
    held = {each.category: each.bytes for each in peak.owners if each.module == "Sequential.0"}
    # A weight of [1024, 1024] floats and its bias.
    assert held["parameters"] == 4 * 1024 * 1024 + 4 * 1024
    assert peak.by_category["optimizer_state"] >= 2 * 2 * (4 * 1024 * 1024 + 4 * 1024)
    assert any(each.site.startswith("test_cuda_trace.py:") for each in peak.owners)
    path = memory.keep_snapshot(tmp_path, "test_step.py::test_step")
    assert path == tmp_path / "test_step.py-test_step.pickle"
    assert pickle.loads(path.read_bytes())["device_traces"]
    assert peak.detail["outside_allocator_end_bytes"] > 0


@pytest.mark.gpu
def test_a_first_product_finds_its_workspace_there(costs: Registry) -> None:
    memory = CudaMemory.create()
    assert isinstance(memory, CudaMemory), memory
    memory.warms_up = True
    with memory:
        growths = []
        for _ in range(2):
            region = memory.begin()
            x = torch.ones(64, 64, device="cuda", requires_grad=True)
            (x @ x).sum().backward()
            del x
            peaks = memory.end(region)
            assert not isinstance(peaks, Unavailable)
            growths.append([each.growth_bytes for each in peaks])
    assert growths[0] == growths[1]
