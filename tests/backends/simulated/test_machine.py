"""A simulated GPU, by programs whose memory can be counted by hand."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.testing._internal.two_tensor import TwoTensor

from pytest_flopguard.backends.base import Unavailable
from pytest_flopguard.backends.simulated.gpus import CONTEXT_BYTES
from pytest_flopguard.backends.simulated.machine import UNLIMITED, Machine
from pytest_flopguard.core.errors import UnknownNameError, UsageError

MIB = 2**20
# cuBLAS works in one block for each thread and stream; on Hopper it has 32 MiB.
CUBLAS = 32 * MIB


def machine(gpu: str = "h100", allocator: str = "", capacity: int | None = None) -> Machine:
    started = Machine.start(gpu, allocator=allocator, capacity=capacity)
    assert not isinstance(started, Unavailable), started.reason
    return started


def peaks(program: Callable[[], object], gpu: str = "h100") -> tuple[int, int]:
    """Return the peak of allocated and of reserved bytes of a program."""
    simulated = machine(gpu)
    with simulated.running():
        program()
    return simulated.allocator.stats.allocated.peak, simulated.allocator.stats.reserved.peak


def test_blocks_are_rounded_and_come_out_of_segments() -> None:
    # 1000 floats are 4000 bytes: 8 x 512 = 4096, out of a segment of 2 MiB for small blocks.
    assert peaks(lambda: torch.empty(1000, device="cuda")) == (4096, 2 * MIB)


def test_tensors_give_their_memory_back_when_they_die() -> None:
    def program() -> None:
        for _ in range(3):
            torch.empty(MIB, dtype=torch.uint8, device="cuda")

    # One at a time: a block of 1 MiB is the largest that comes out of a small segment.
    assert peaks(program) == (MIB, 2 * MIB)


def test_views_take_nothing() -> None:
    def program() -> torch.Tensor:
        rows = torch.empty(128, 4, device="cuda")
        return rows.t()[1:].reshape(3, 128).expand(3, 128)

    assert peaks(program)[0] == 128 * 4 * 4


def test_the_first_product_takes_the_workspace_of_cublas() -> None:
    def program() -> torch.Tensor:
        return torch.empty(256, 256, device="cuda") @ torch.empty(256, 256, device="cuda")

    # Three matrices of 256 x 256 x 4 bytes; before Hopper cuBLAS has two blocks of 4 MiB and eight of 16 KiB.
    assert peaks(program)[0] == 3 * 256 * 256 * 4 + CUBLAS
    assert peaks(program, "a100")[0] == 3 * 256 * 256 * 4 + 8 * MIB + 128 * 1024


def test_backward_has_a_workspace_of_its_own() -> None:
    def program() -> None:
        weight = torch.empty(512, 512, device="cuda", requires_grad=True)
        (torch.empty(512, 512, device="cuda") @ weight).sum().backward()

    # In the product of backward: input, weight and its gradient of 1 MiB each, the sum and its gradient of 512 bytes
    # each. The gradient that comes in is one number seen as a matrix, which cuBLAS cannot read: a copy of 1 MiB.
    allocated, _ = peaks(program)
    assert allocated == 4 * MIB + 2 * CUBLAS + 2 * 512


def test_from_torch_2_15_on_a_call_gives_its_workspace_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TORCH_CUBLAS_WORKSPACE_CACHE")
    gives_back = torch.__version__ >= (2, 15)
    simulated = machine()
    stats = simulated.allocator.stats.allocated
    with simulated.running():
        bias, x = torch.empty(256, device="cuda"), torch.empty(256, 256, device="cuda")
        out = torch.addmm(bias, x, x)
    # 1024 bytes, and two matrices of 256 x 256 x 4. cuBLASLt adds the bias; where it has a block, that is of 1 MiB.
    assert stats.peak - (1024 + 2 * 256 * 1024) == (MIB if gives_back else CUBLAS)
    with simulated.running():
        other = x @ x
    assert stats.peak == 1024 + 3 * 256 * 1024 + CUBLAS
    assert stats.current == stats.peak - (CUBLAS if gives_back else 0)
    del bias, x, out, other


def test_the_engine_adds_gradients_in_place() -> None:
    def forward(leaf: torch.Tensor) -> torch.Tensor:
        twice_used = leaf * 2
        return twice_used * 3 + twice_used * 5

    def program() -> None:
        leaf = torch.empty(1024, 1024, device="cuda", requires_grad=True)
        forward(leaf).backward(torch.empty(1024, 1024, device="cuda"))

    # Matrices of 4 MiB. At the end of forward: leaf, twice_used, its two products and their sum. In backward: leaf,
    # sum, the given gradient, and those of the two products, which only the engine holds: it adds one to the other in
    # place. A sum out of place would be a sixth.
    allocated, _ = peaks(program)
    assert allocated == 5 * 4 * MIB


def test_tensors_inside_a_subclass_are_followed() -> None:
    def program() -> TwoTensor:
        both = TwoTensor(torch.empty(1000, device="cuda"), torch.empty(1000, device="cuda"))
        return both * 2

    # Two inside, and two results of the product.
    assert peaks(program)[0] == 4 * 4096


def test_a_training_step_knows_who_holds_its_peak() -> None:
    simulated = machine()
    span = simulated.holdings.open()
    with simulated.running():
        model = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 64)).to("cuda")
        optimizer = torch.optim.AdamW(model.parameters())
        for _ in range(2):
            model(torch.empty(512, 64, device="cuda")).sum().backward()
            optimizer.step()
            optimizer.zero_grad()
    owners, _ = simulated.holdings.close(span)
    assert sum(each.bytes for each in owners) == span.allocated
    found: dict[str, int] = {}
    for each in owners:
        found[each.category] = found.get(each.category, 0) + each.bytes
    # Weights of 64 x 256 x 4 bytes twice, biases of 1024 and 256 bytes (the latter in blocks of 512); Adam keeps two
    # moments for each. Its step counters live on the CPU.
    weights = 2 * 64 * 256 * 4 + 1024 + 512
    assert found["parameters"] == weights
    assert found["optimizer_state"] == 2 * weights
    assert found["workspaces"] == 2 * CUBLAS
    assert "Sequential.0" in {each.module for each in owners if each.category == "parameters"}


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_fused_optimizers_write_in_place(momentum: float) -> None:
    def program() -> None:
        layer = nn.Linear(8, 8, device="cuda")
        optimizer = torch.optim.SGD(layer.parameters(), momentum=momentum, fused=True)
        for _ in range(2):
            layer(torch.ones(4, 8, device="cuda")).sum().backward()
            optimizer.step()
            optimizer.zero_grad()

    # In the second backward's product: weight, bias, input, the sum, the number that backward began with, the gradient
    # that is copied for cuBLAS, and the weight's, each in a block of 512 bytes; with momentum two more. The step takes
    # nothing.
    allocated, _ = peaks(program)
    assert allocated == 2 * CUBLAS + (9 if momentum else 7) * 512


def test_memory_that_is_full_is_an_out_of_memory_error_that_says_so() -> None:
    simulated = machine(capacity=64 * MIB)
    with simulated.running():
        kept = [torch.empty(32 * MIB, dtype=torch.uint8, device="cuda") for _ in range(2)]
        with pytest.raises(torch.OutOfMemoryError, match=r"Tried to allocate 0\.03 GiB\. GPU 0 \(h100, simulated\)"):
            torch.empty(32 * MIB, dtype=torch.uint8, device="cuda")
    assert len(kept) == 2


def test_a_machine_without_limit_takes_anything() -> None:
    simulated = machine(capacity=UNLIMITED)
    with simulated.running():
        torch.empty(2**42, dtype=torch.uint8, device="cuda")
    assert simulated.allocator.stats.allocated.peak == 2**42


def test_torch_answers_as_on_that_gpu() -> None:
    with machine("a100").running():
        assert torch.cuda.is_available()
        assert torch.cuda.get_device_capability() == (8, 0)
        assert torch.cuda.device_count() == 1
        assert torch.cuda.is_bf16_supported()
        kept = torch.empty(1000, device="cuda")
        assert torch.cuda.memory_allocated() == torch.cuda.max_memory_allocated() == 4096
        assert torch.cuda.memory_reserved() == torch.cuda.memory_stats()["reserved_bytes.all.peak"] == 2 * MIB
        free, total = torch.cuda.mem_get_info()
        assert total - free == CONTEXT_BYTES + 2 * MIB
        del kept
        assert torch.cuda.memory_allocated() == 0
        torch.cuda.reset_peak_memory_stats()
        torch.cuda.empty_cache()
        assert torch.cuda.max_memory_allocated() == torch.cuda.memory_reserved() == 0


def test_autocast_is_on() -> None:
    with machine().running(), torch.autocast("cuda", dtype=torch.bfloat16):
        assert (torch.empty(8, 8, device="cuda") @ torch.empty(8, 8, device="cuda")).dtype is torch.bfloat16


def test_nothing_is_left_behind() -> None:
    state = torch.get_rng_state()
    before = (torch.cuda.is_available, torch.utils.swap_tensors, torch.cuda.Stream, torch.Tensor.record_stream)

    def program() -> None:
        torch.randint(0, 9, (4,), device="cuda")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        peaks(program)
    assert before == (torch.cuda.is_available, torch.utils.swap_tensors, torch.cuda.Stream, torch.Tensor.record_stream)
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.cuda.is_available()
    weight = torch.ones(3, requires_grad=True)
    (weight * 2).sum().backward()
    assert weight.grad is not None
    assert weight.grad.tolist() == [2.0, 2.0, 2.0]


def test_a_name_that_was_taken_inside_makes_torch_s_own_generators_outside() -> None:
    real = torch.Generator
    with machine().running():
        taken = torch.Generator
        assert taken("cuda").device.type == "cuda"
    assert torch.Generator is real
    assert type(taken()) is real
    assert torch.cuda.default_generators == ()


def test_memory_on_another_stream_waits_for_it() -> None:
    with machine().running():
        side = torch.cuda.Stream()
        used = torch.empty(MIB, device="cuda")
        used.record_stream(side)
        del used
        active = torch.cuda.memory_stats()["active_bytes.all.current"]
        torch.cuda.synchronize()
        torch.empty(1, device="cuda")
        assert active == 4 * MIB
        assert torch.cuda.memory_stats()["active_bytes.all.current"] == 0


def test_a_stream_has_its_own_blocks() -> None:
    def program() -> None:
        torch.empty(1000, device="cuda")
        with torch.cuda.stream(torch.cuda.Stream()):
            torch.empty(1000, device="cuda")

    # The second cannot have the first one's block, although that is free: it belongs to another stream.
    assert peaks(program) == (4096, 4 * MIB)


def test_the_time_between_events_is_not_known() -> None:
    with machine().running():
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        end.record()
        with pytest.raises(Exception, match="the time between two CUDA events"):
            start.elapsed_time(end)


def test_settings_of_the_allocator_change_the_prediction() -> None:
    simulated = machine(allocator="roundup_power2_divisions:1")
    assert simulated.settings.text
    with pytest.raises(UsageError, match=re.escape("max_splt_size_mb")):
        machine(allocator="max_splt_size_mb:32")


def test_a_gpu_that_does_not_exist_is_told_with_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="h100"):
        machine("h1000")


def test_two_runs_are_alike() -> None:
    def program() -> None:
        model = nn.TransformerEncoderLayer(64, 4, 128, batch_first=True, device="cuda")
        for _ in range(2):
            model(torch.empty(4, 32, 64, device="cuda")).sum().backward()

    assert peaks(program) == peaks(program)


def test_a_cell_keeps_what_its_backward_needs() -> None:
    # Batch 128, width 512: x, h, h' and 5 kept values of each; 3 H x H twice and 3 H twice for weights and biases.
    # derivatives.yaml keeps the gates too, 3 each way, for second derivatives.
    def program() -> int:
        cell = nn.GRUCell(512, 512, device="cuda")
        x = torch.zeros(128, 512, device="cuda", requires_grad=True)
        h = torch.zeros(128, 512, device="cuda")
        out = cell(x, h)
        assert out.shape == (128, 512)
        return torch.cuda.memory_allocated()

    row = 128 * 4 * 512
    weights = 2 * 3 * 512 * 512 * 4 + 2 * 3 * 512 * 4
    with machine().running():
        assert program() == weights + (1 + 1 + 1 + 5 + 2 * 3) * row + CUBLAS
