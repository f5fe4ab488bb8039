"""Memory that changes without an op call: resized storages, loaded and copied ones, FSDP."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch._dynamo
import torch.distributed.fsdp  # noqa: F401

# Runs in this process must not import the rest of torch anew: some of its modules cannot be imported twice.
import pytest_flopguard.backends.simulated.memory  # noqa: F401

Project = Callable[..., pytest.Pytester]
Run = Callable[..., pytest.RunResult]
Report = Callable[[], dict[str, Any]]
MIB = 2**20

RESIZED = """
from torch import empty
MIB = 2**20
def byte_tensor(size, device):
    return torch.empty(size, dtype=torch.uint8, device=device)

def shrink(device):
    held = byte_tensor(64 * MIB, device)
    held.untyped_storage().resize_(0)
    return held, byte_tensor(64 * MIB, device)

def grow(device):
    held = byte_tensor(0, device)
    held.untyped_storage().resize_(64 * MIB)
    return held

def grow_again(device):
    held = byte_tensor(32 * MIB, device)
    held.untyped_storage().resize_(64 * MIB)
    return held

def typed(device):
    held = byte_tensor(64 * MIB, device)
    held._typed_storage()._resize_(0)
    return held, byte_tensor(64 * MIB, device)

def out(device):
    one, result = byte_tensor(32 * MIB, device), byte_tensor(0, device)
    torch.add(one, 1, out=result)
    return one, result

def out_list(device):
    one, results = byte_tensor(32 * MIB, device), [byte_tensor(0, device) for _ in range(2)]
    torch.split_with_sizes_copy(one, [16 * MIB, 16 * MIB], out=results)
    return one, results

def data(device):
    held = byte_tensor(32 * MIB, device)
    held.data = byte_tensor(32 * MIB, device)
    return held, byte_tensor(32 * MIB, device)

def emptied(device):
    held = byte_tensor(64 * MIB, device)
    held.set_()
    return held, byte_tensor(64 * MIB, device)

@pytest.mark.parametrize(("change", "peak"), [
    (shrink, 64),      # 64 given back, 64 taken
    (grow, 64),
    (grow_again, 96),  # the old 32 are copied into the new 64
    (typed, 64),
    (out, 64),         # 32 read, 32 written
    (out_list, 64),
    (data, 64),        # 32 replaced by 32, and then 32 more
    (emptied, 64),
])
def test_peak(flopguard, change, peak):
    with flopguard.measure("change") as region:
        held = change(flopguard.device)
    assert [(each.start_bytes, each.peak_bytes) for each in region.memory] == [(0, peak * MIB)]
"""


@pytest.mark.parametrize("device", ["auto", pytest.param("sim:h100", marks=pytest.mark.slow)])
def test_the_peak_follows_storages_that_are_resized_without_an_op(project: Project, run: Run, device: str) -> None:
    project(RESIZED)
    run("--flop-budget", f"--flop-device={device}").assert_outcomes(passed=8)


def test_a_storage_that_was_there_before_is_resized_in_the_region(project: Project, run: Run) -> None:
    project(
        """
@pytest.fixture
def held():
    return torch.empty(4096, dtype=torch.uint8)

def test_freed(flopguard, held):
    with flopguard.measure("freed") as region:
        held.untyped_storage().resize_(0)
        torch.empty(1024, dtype=torch.uint8)
    # 4,096 at the start, and never more.
    assert [(each.start_bytes, each.peak_bytes) for each in region.memory] == [(4096, 4096)]

def test_grown(flopguard, held):
    with flopguard.measure("grown") as region:
        held.untyped_storage().resize_(8192)
    # The old 4,096 are copied into the new 8,192.
    assert [(each.start_bytes, each.peak_bytes) for each in region.memory] == [(4096, 4096 + 8192)]
"""
    )
    run("--flop-budget").assert_outcomes(passed=2)


def test_what_is_made_without_an_op_grows_memory(project: Project, run: Run) -> None:
    """Loading, copying and unpickling make storages themselves; they were taken for older than the region."""
    project(
        """
import copy, io, pickle
import numpy

SIZE = 4096

def loaded(model, file):
    return torch.load(file)

def loaded_legacy(model, file):
    old = io.BytesIO()
    torch.save(torch.load(file), old, _use_new_zipfile_serialization=False)
    old.seek(0)
    return torch.load(old)

def unpickled(model, file):
    return pickle.loads(pickle.dumps(torch.ones(SIZE // 4)))

def copied(model, file):
    return copy.deepcopy(model)

def cloned(model, file):
    return model.weight.untyped_storage().clone()

def from_buffer(model, file):
    return torch.frombuffer(bytearray(SIZE), dtype=torch.uint8) + 1

def from_dlpack(model, file):
    return torch.from_dlpack(numpy.zeros(SIZE, dtype=numpy.uint8)) + 1

def shared(model, file):
    return torch.ones(SIZE // 4).share_memory_()

@pytest.mark.parametrize(("make", "growth"), [
    (loaded, SIZE),
    (loaded_legacy, SIZE),       # the copy that was saved anew is gone by then
    (unpickled, SIZE),           # the tensor that was pickled is gone
    (copied, SIZE),
    (cloned, SIZE),
    (from_buffer, 2 * SIZE),     # and the sum
    (from_dlpack, 2 * SIZE),
    (shared, 2 * SIZE),          # copied to shared memory
])
def test_growth(flopguard, make, growth):
    model = nn.Linear(32, 32, bias=False)  # 32 x 32 floats are 4,096 bytes
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    with flopguard.measure("make") as region:
        model.weight + 0  # seen, and so there at the start
        held = make(model, file)
    (peak,) = region.memory
    start = peak.start_bytes
    assert (start, peak.growth_bytes) == (SIZE, growth)
"""
    )
    run("--flop-budget").assert_outcomes(passed=8)


@pytest.mark.slow
def test_a_checkpoint_that_is_loaded_to_a_simulated_gpu_takes_its_memory(project: Project, run: Run) -> None:
    project(
        """
import io

FILE = io.BytesIO()
torch.save({"a": torch.ones(2**18), "b": torch.ones(4)}, FILE)
FILE.seek(0)

def test_load(flopguard):
    with flopguard.measure("load") as region:
        held = torch.load(FILE, map_location=flopguard.device)
    # 2**18 floats are 1 MiB; four floats take a block of 512 bytes.
    assert region.memory[0].peak_bytes == 2**20 + 512
"""
    )
    run("--flop-budget", "--flop-device=sim:h100").assert_outcomes(passed=1)


FSDP = """
import torch.distributed as dist
from torch.distributed._tools.fsdp2_mem_tracker import FSDPMemTracker
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.testing._internal.distributed.fake_pg import FakeStore

@pytest.fixture(autouse=True)
def world():
    dist.init_process_group("fake", rank=0, world_size=4, store=FakeStore())
    yield
    dist.destroy_process_group()

def sharded(device, blocks, width, reshard, policy=MixedPrecisionPolicy()):
    mesh = init_device_mesh(device, (4,))
    with torch.device(device):
        model = nn.Sequential(*(
            nn.Sequential(nn.Linear(width, 4 * width, bias=False), nn.Linear(4 * width, width, bias=False))
            for _ in range(blocks)
        ))
    for block in (*model, model):
        fully_shard(block, mesh=mesh, reshard_after_forward=reshard, mp_policy=policy)
    return model
"""


@pytest.mark.slow
def test_the_peak_of_fsdp_is_that_of_the_tracker_of_torch(project: Project, run: Run) -> None:
    project(
        FSDP
        + """
@pytest.mark.parametrize("reshard", [True, False])
@pytest.mark.parametrize("half", [True, False])
def test_step(flopguard, reshard, half):
    policy = MixedPrecisionPolicy(torch.bfloat16, torch.float32) if half else MixedPrecisionPolicy()
    model = sharded("cpu", 2, 32, reshard, policy)
    optimizer = torch.optim.AdamW(model.parameters())
    x = torch.zeros(8, 32)

    def step():
        model(x).sum().backward()
        optimizer.step()
        optimizer.zero_grad()

    tracker = FSDPMemTracker(model, optimizer)
    tracker.track_inputs((x,))
    with tracker:
        step()
        tracker.reset_mod_stats()
        with flopguard.measure("second") as region:
            step()
    (device,) = tracker.get_tracker_snapshot("peak")
    # The mesh of four ranks is a tensor of four int32, 16 bytes, which the tracker does not know.
    assert region.memory[0].peak_bytes == tracker.get_tracker_snapshot("peak")[device]["Total"] + 16
    assert region.memory[0].start_bytes == tracker.get_tracker_snapshot("current")[device]["Total"] + 16
"""
    )
    run("--flop-budget").assert_outcomes(passed=4)


@pytest.mark.slow
def test_fsdp_on_a_simulated_gpu_frees_what_it_reshards(project: Project, run: Run) -> None:
    project(
        FSDP
        + """
@pytest.mark.parametrize("reshard", [True, False])
def test_step(flopguard, reshard):
    model = sharded("cuda", 8, 256, reshard)
    x = torch.zeros(1, 256, device="cuda")
    y = model(x).sum()
    forward = torch.cuda.max_memory_allocated()
    # A block is 2 x 256 x 1024 floats, 2 MiB; the rank's shards of 8 blocks are a quarter of 16 MiB. At the peak a
    # block is copied out of what was gathered for it. Before torch 2.15, what was gathered for the block before is
    # still allocated then (release_all_gather_state_for_comm_reuse in _fsdp_param_group.py).
    held = (2 if reshard else 16) * 2**20
    newer = tuple(map(int, torch.__version__.split(".")[:2])) >= (2, 15)
    gathered = 1 if newer else 2
    rest = 4 * 2**20 + gathered * 2 * 2**20 + 32 * 2**20  # and 32 MiB of cuBLAS
    # The input and the activations of the blocks are 1 + 8 x (4 + 1) KiB.
    assert held + rest <= forward <= held + rest + 41 * 2**10
    y.backward()
    model.zero_grad()
    del y
    # Shards again, the input of 1 KiB, and two workspaces of cuBLAS (forward, backward); torch 2.15 gives those back.
    assert torch.cuda.memory_allocated() == 4 * 2**20 + (0 if newer else 64 * 2**20) + 1024
"""
    )
    run("--flop-budget", "--flop-device=sim:h100").assert_outcomes(passed=2)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.slow)])
def test_the_peak_is_in_the_phase_that_resizes(project: Project, run: Run, report: Report, device: str) -> None:
    # The storage is made in forward with 8 bytes, and has 64 MiB for a moment in backward.
    project(
        f"""
def test_step():
    x = torch.ones(4, 4, device="{device}", requires_grad=True)
    held = torch.zeros(8, dtype=torch.uint8, device="{device}")
    y = x @ x
    def resize(gradient):
        held.untyped_storage().resize_(2**26)
        held.untyped_storage().resize_(8)
    y.register_hook(resize)
    y.sum().backward()
"""
    )
    sim = ("--flop-device=sim:h100",) if device == "cuda" else ()
    run("--flop-budget", "--flop-report=report.json", *sim).assert_outcomes(passed=1)
    (record,) = report()["records"]
    assert record["memory"]["peak_bytes"] > 64 * MIB
    assert record["memory"]["peak_phase"] == "backward"
