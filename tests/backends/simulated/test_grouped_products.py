"""Grouped products on a simulated GPU: laid out, refused and measured as CUDA's are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pytest_flopguard.backends.base import Unavailable
from pytest_flopguard.backends.simulated.machine import Machine

BFLOAT, HALF, FLOAT = torch.bfloat16, torch.float16, torch.float32


@contextmanager
def on(gpu: str) -> Iterator[Machine]:
    machine = Machine.start(gpu, allocator="")
    assert not isinstance(machine, Unavailable), machine.reason
    with machine.running():
        yield machine


def values(*shape: int, dtype: torch.dtype = FLOAT) -> Tensor:
    return torch.randn(*shape, device="cuda", dtype=dtype)


def ends(*numbers: int) -> Tensor:
    return torch.tensor(numbers, dtype=torch.int32, device="cuda")


@pytest.mark.parametrize("dtype", [BFLOAT, HALF, FLOAT], ids=str)
def test_rows_of_the_result_begin_at_sixteen_bytes(dtype: torch.dtype) -> None:
    # 20 columns are 40 bytes in 16 bits, padded to 48, that is 24; and 80 in float32, a multiple of 16.
    row = 20 if dtype == FLOAT else 24
    with on("h100"):
        weights = values(3, 20, 16, dtype=dtype).transpose(1, 2)  # by columns: 16 apart
        out = F.grouped_mm(values(10, 16, dtype=dtype), weights, offs=ends(4, 4, 10))
        assert (out.shape, out.stride()) == ((10, 20), (row, 1))
        left, right = values(16, 8, dtype=dtype).t(), values(16, 24, dtype=dtype)[:, :20]
        out = F.grouped_mm(left, right, offs=ends(4, 16))
        assert (out.shape, out.stride()) == ((2, 8, 20), (8 * row, row, 1))


@pytest.mark.parametrize(("gpu", "dtype"), [("h100", FLOAT), ("h100", HALF), ("a100", BFLOAT)])
def test_groups_one_by_one_take_nothing(gpu: str, dtype: torch.dtype) -> None:
    with on(gpu) as machine:
        x, weights, offs = values(64, 32, dtype=dtype), values(4, 32, 48, dtype=dtype), ends(10, 20, 20, 64)
        x.t() @ x  # cuBLAS has its workspace
        before = machine.allocator.stats.allocated.current
        machine.allocator.reset_peaks()
        out = F.grouped_mm(x, weights, offs=offs)
        assert machine.allocator.stats.allocated.peak - before == out.nbytes
        assert machine.unknown == ()


def test_all_at_once_takes_pointers_strides_and_shapes() -> None:
    with on("h100") as machine:
        x, weights, offs = values(64, 32, dtype=BFLOAT), values(33, 32, 48, dtype=BFLOAT), ends(*range(31, 64))
        x.t() @ x
        before = machine.allocator.stats.allocated.current
        machine.allocator.reset_peaks()
        F.grouped_mm(x, weights, offs=offs)
        # 34 x 3 pointers of 8 bytes, 33 x 3 strides of 8 and 33 x 3 sizes of 4: 816 + 792 + 396 = 2004, in 2048.
        assert machine.allocator.stats.allocated.peak - before == 64 * 48 * 2 + 2048
        assert machine.unknown == ("CUTLASS's workspace for products of 33 groups",)


@pytest.mark.parametrize("dtype", [BFLOAT, FLOAT], ids=str)
def test_experts_are_trained(dtype: torch.dtype) -> None:
    with on("h100"):
        x = values(10, 16, dtype=dtype).requires_grad_()
        weights = values(3, 16, 32, dtype=dtype).requires_grad_()
        F.grouped_mm(x, weights, offs=ends(4, 4, 10)).pow(2).sum().backward()
        assert x.grad is not None
        assert weights.grad is not None
        assert (x.grad.shape, weights.grad.shape) == (x.shape, weights.shape)


def test_what_cuda_refuses_is_refused() -> None:
    with on("h100"):
        x, weights, offs = values(10, 16), values(3, 16, 32), ends(4, 4, 10)
        for error, call in {
            "expected data_ptr to be aligned to 16 bytes": lambda: (values(161)[1:].view(10, 16), weights, offs),
            "strides should be multiple of 16 bytes": lambda: (values(10, 17)[:, :16], weights, offs),
            "Invalid strides/sizes": lambda: (values(10, 32)[:, ::2], weights, offs),
            "contraction dimension": lambda: (values(10, 20), weights, offs),
            "Offsets have to be int32": lambda: (x, weights, offs.long()),
            "offs has to be 1D": lambda: (x, weights, offs[None]),
            "Have to provide offsets": lambda: (x, weights, None),
            "matrix batch sizes have to match": lambda: (x, weights, ends(10)),
            "mat_a to be Float32, BFloat16 or Float16": lambda: (x.double(), weights, offs),
            "mat_b has to be 2 or 3d": lambda: (x, weights[None], offs),
        }.items():
            left, right, at = call()
            with pytest.raises(RuntimeError, match=error):
                torch._grouped_mm(left, right, at)
