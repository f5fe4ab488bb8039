"""Ordinary programs on a simulated GPU: lazy modules, data loaders with workers, DataParallel, free memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch._dynamo.config  # noqa: F401

# Runs in this process must not import the rest of torch anew, nor what fake tensors import.
import pytest_flopguard.backends.simulated.memory  # noqa: F401

Project = Callable[..., pytest.Pytester]
Run = Callable[..., pytest.RunResult]
SIM = ("--flop-budget", "--flop-device=sim:h100")

LAZY = """
@pytest.mark.parametrize("lazy, eager, shape", [
    (lambda: nn.LazyLinear(10), lambda: nn.Linear(6, 10), (4, 6)),
    (lambda: nn.LazyConv1d(8, 3), lambda: nn.Conv1d(6, 8, 3), (2, 6, 8)),
    (lambda: nn.LazyConvTranspose2d(8, 3), lambda: nn.ConvTranspose2d(6, 8, 3), (2, 6, 8, 8)),
    (lambda: nn.LazyBatchNorm2d(), lambda: nn.BatchNorm2d(6), (2, 6, 8, 8)),
    (nn.LazyInstanceNorm2d, lambda: nn.InstanceNorm2d(6, affine=True, track_running_stats=True), (2, 6, 8, 8)),
])
@pytest.mark.parametrize("when", ["moved", "made there", "moved twice", "moved after its first input"])
def test_lazy(flopguard, lazy, eager, shape, when):
    def peak(make):
        torch.cuda.reset_peak_memory_stats()
        start = torch.cuda.memory_allocated()
        if when == "made there":
            torch.set_default_device("cuda")
        try:
            model = make()
        finally:
            torch.set_default_device(None)
        if when == "moved after its first input":
            model(torch.zeros(shape))
        model = model.cuda().cuda() if when == "moved twice" else model.cuda()
        model(torch.zeros(shape, device="cuda")).sum().backward()
        torch.optim.SGD(model.parameters(), lr=0.1).step()
        assert all(type(each) is type(other) for each, other in zip(model.parameters(), eager().parameters()))
        assert all(each.is_cuda and each.grad.is_cuda for each in model.parameters())
        return list(model.state_dict()), torch.cuda.max_memory_allocated() - start

    peak(eager)  # from here on cuBLAS has its workspace
    assert peak(lazy) == peak(eager)

def test_an_uninitialized_parameter_refuses_what_it_refuses_elsewhere(flopguard):
    with pytest.raises(ValueError, match="uninitialized parameter"):
        nn.LazyLinear(10).weight + 1
"""
LOADER = """
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

class Products(Dataset):
    def __len__(self):
        return 8

    def __getitem__(self, index):
        return torch.ones(4, 4) @ torch.ones(4, 4)

@pytest.mark.parametrize("options", [
    {"num_workers": 2},
    {"num_workers": 1, "persistent_workers": True, "pin_memory": True, "prefetch_factor": 4, "timeout": 9},
])
def test_workers(flopguard, options):
    numbers = DataLoader(TensorDataset(torch.arange(8)), batch_size=4, **options)
    for epoch in range(2):
        assert [x.cuda().tolist() for x, in numbers] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    with flopguard.measure("loading") as loading:
        # As elsewhere, where worker processes make these products, they are not counted.
        assert [tuple(x.cuda().shape) for x in DataLoader(Products(), batch_size=4, **options)] == [(4, 4, 4)] * 2
    assert loading.flops.total == 0
    # 2 x 4 x 4 x 4
    with flopguard.measure("own process") as own:
        next(iter(DataLoader(Products(), batch_size=1)))
    assert own.flops.total == 128

class Stream(IterableDataset):
    def __iter__(self):
        yield torch.ones(4)

def test_stream(flopguard):
    next(iter(DataLoader(Stream(), num_workers=2)))
"""
PARALLEL = """
def test_one_gpu(flopguard):
    model = nn.DataParallel(nn.Linear(8, 8).cuda())
    x = torch.zeros(4, 8, requires_grad=True)
    assert model(x).is_cuda
    model(x).sum().backward()
    assert x.grad.shape == (4, 8) and not x.grad.is_cuda
    model(torch.zeros(4, 8, device="cuda"))

def test_two_gpus(flopguard):
    nn.DataParallel(nn.Linear(8, 8).cuda(), device_ids=[0, 1])

def test_free_memory(flopguard):
    # The context, 500 MiB, is never free; the allocator takes 2 MiB for the first small tensor.
    free, total = torch.cuda.mem_get_info()
    assert total - free == 500 * 2**20
    x = torch.zeros(4, device="cuda")
    assert free - torch.cuda.mem_get_info()[0] == 2 * 2**20
    assert torch.cuda.get_device_properties(0).total_memory == total
    assert torch.Stream(device="cuda").device.type == "cuda"
"""


@pytest.mark.slow
def test_lazy_modules_take_what_eager_ones_take(project: Project, run: Run) -> None:
    project(LAZY)
    run(*SIM).assert_outcomes(passed=21)


def test_workers_of_a_data_loader(project: Project, run: Run) -> None:
    project(LOADER)
    result = run(*SIM)
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(["*DataLoader(num_workers=2): *; write num_workers=0 if flopguard.simulated*"])


def test_data_parallel_and_free_memory(project: Project, run: Run) -> None:
    project(PARALLEL)
    result = run(*SIM)
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(["*cuda:1: one GPU is simulated, cuda:0*"])


def test_a_lazy_module(project: Project, run: Run) -> None:
    project(
        """
def test_it(flopguard):
    model = nn.LazyLinear(8).cuda()
    model(torch.zeros(4, 8, device="cuda")).sum().backward()
    assert model.weight.grad.shape == (8, 8)
"""
    )
    run(*SIM).assert_outcomes(passed=1)


def test_what_an_earlier_test_left_on_its_gpu_counts_from_the_start(
    project: Project, run: Run, report: Callable[[], dict[str, Any]]
) -> None:
    project(
        """
@pytest.fixture(scope="module")
def model():
    return nn.Linear(256, 256, bias=False)

@pytest.mark.parametrize("number", [1, 2])
def test_step(flopguard, model, number):
    model.cuda()(torch.zeros(256, 256, device="cuda")).sum().backward()
"""
    )
    run(*SIM, "--flop-report=report.json").assert_outcomes(passed=2)
    first, second = (each["memory"] for each in report()["records"])
    # The weight and its gradient take 256 x 256 x 4 = 262,144 bytes each. Both are there when the second test begins,
    # and it makes the gradient once more before it is added.
    assert (first["start_bytes"], second["start_bytes"]) == (0, 2 * 262_144)
    assert second["peak_bytes"] - first["peak_bytes"] == 262_144
