"""Sharded programs: what this process does itself, without a network."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.distributed._symmetric_memory
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import Partial, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
from torch.testing._internal.distributed.fake_pg import FakeStore

from pytest_flopguard.core.measurement import FlopTally

Count = Callable[[Callable[[], Any]], FlopTally]


@pytest.fixture
def mesh() -> Iterator[DeviceMesh]:
    """Four processes, of which three are imagined."""
    dist.init_process_group("fake", rank=0, world_size=4, store=FakeStore())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield init_device_mesh("cpu", (4,))
    dist.destroy_process_group()


@pytest.fixture
def one_process() -> Iterator[None]:
    dist.init_process_group("gloo", rank=0, world_size=1, store=dist.HashStore())
    yield
    dist.destroy_process_group()


@pytest.mark.parametrize(
    ("left", "right", "flops"),
    [
        # [16, 8] @ [8, 32]: rows, columns, or the terms of each sum are cut in four; or nothing is.
        (Shard(0), Replicate(), 2 * 4 * 8 * 32),
        (Replicate(), Shard(1), 2 * 16 * 8 * 8),
        (Shard(1), Shard(0), 2 * 16 * 2 * 32),
        (Replicate(), Replicate(), 2 * 16 * 8 * 32),
    ],
)
def test_a_sharded_product_is_the_shard_of_this_process(
    count: Count, mesh: DeviceMesh, left: Any, right: Any, flops: int
) -> None:
    a = distribute_tensor(torch.ones(16, 8), mesh, [left])
    b = distribute_tensor(torch.ones(8, 32), mesh, [right])
    # torch plans each product once, on tensors without data; that is no work.
    first, again = count(lambda: a @ b), count(lambda: a @ b)
    assert (first.total, again.total) == (flops, flops)
    assert first.unknown_ops == ()


@pytest.mark.parametrize("setting", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_collectives_are_known_and_no_products(count: Count, mesh: DeviceMesh, setting: Any) -> None:
    part = distribute_tensor(torch.ones(16, 8), mesh, [Shard(0)])
    with setting():
        tally = count(lambda: [part.redistribute(mesh, [each]) for each in (Replicate(), Shard(1))])
        sums = distribute_tensor(torch.ones(8, 8), mesh, [Shard(0)]).sum(0)
        assert sums.placements == (Partial(),)
        assert count(lambda: [sums.full_tensor(), sums.redistribute(mesh, [Shard(0)])]).unknown_ops == ()
    assert (tally.total, tally.unknown_ops) == (0, ())


def model() -> nn.Sequential:
    return nn.Sequential(nn.Linear(8, 32, bias=False), nn.ReLU(), nn.Linear(32, 8, bias=False))


# [16, 8] @ [8, 32] and [16, 32] @ [32, 8]
PRODUCT = 2 * 16 * 8 * 32


def test_tensor_parallel_layers_are_a_quarter_each(count: Count, mesh: DeviceMesh) -> None:
    parallel = parallelize_module(model(), mesh, {"0": ColwiseParallel(), "2": RowwiseParallel()})
    tally = count(lambda: parallel(torch.ones(16, 8)).sum().backward())
    # One gradient for the first layer, whose input asks for none, and two for the second.
    assert (tally.forward, tally.backward) == (2 * PRODUCT // 4, 3 * PRODUCT // 4)
    assert tally.by_module() == {"Sequential.2": 3 * PRODUCT // 4, "Sequential.0": 2 * PRODUCT // 4}
    with torch.inference_mode():
        assert count(lambda: parallel(torch.ones(16, 8))).total == 2 * PRODUCT // 4


def test_sharded_parameters_are_gathered_and_the_products_are_whole(count: Count, mesh: DeviceMesh) -> None:
    sharded = model()
    for layer in (sharded[0], sharded[2], sharded):
        fully_shard(layer, mesh=mesh)
    tally = count(lambda: sharded(torch.ones(16, 8, requires_grad=True)).sum().backward())
    assert (tally.forward, tally.backward, tally.recompute) == (2 * PRODUCT, 4 * PRODUCT, 0)
    assert tally.unknown_ops == ()


@pytest.mark.usefixtures("one_process")
def test_data_parallel_training_is_the_model(count: Count) -> None:
    replica = nn.parallel.DistributedDataParallel(model())
    tally = count(lambda: replica(torch.ones(16, 8, requires_grad=True)).sum().backward())
    assert (tally.forward, tally.backward) == (2 * PRODUCT, 4 * PRODUCT)
    assert tally.unknown_ops == ()


@pytest.mark.parametrize("gather_dim", [0, 1])
def test_a_product_fused_with_its_gather_is_its_parts(count: Count, mesh: DeviceMesh, gather_dim: int) -> None:
    # torch's own parts of the fused op run where a tensor has no data.
    group = mesh.get_group().group_name
    # [8, 6] gathered from four ranks along a dimension: [32, 6], or [8, 24].
    gathered = (32, 6) if gather_dim == 0 else (8, 24)
    shard = torch.empty(8, 6, device="meta")
    weights = [torch.empty(gathered[1], columns, device="meta") for columns in (5, 3)]
    fused = torch.ops.symm_mem.fused_all_gather_matmul
    tally = count(lambda: fused(shard, weights, gather_dim, group))
    # [32, 6] @ [6, 5 + 3], or [8, 24] @ [24, 5 + 3].
    assert tally.total == 2 * gathered[0] * gathered[1] * 8
    assert tally.unknown_ops == ()


def test_a_product_fused_with_its_scatter_is_whole(count: Count, mesh: DeviceMesh) -> None:
    group = mesh.get_group().group_name
    a, b = torch.empty(8, 6, device="meta"), torch.empty(6, 5, device="meta")
    tally = count(lambda: torch.ops.symm_mem.fused_matmul_reduce_scatter(a, b, "sum", 0, group))
    # [8, 6] @ [6, 5], before a quarter of its rows is kept: 2 * 8*6*5.
    assert (tally.total, tally.unknown_ops) == (480, ())


def test_waiting_in_place_and_point_to_point_calls_are_known(count: Count, mesh: DeviceMesh) -> None:
    functional, group = torch.ops._c10d_functional, mesh.get_group().group_name

    def calls() -> None:
        x = torch.ones(4)
        functional.wait_tensor(functional.all_reduce_(x, "sum", group))
        functional.wait_tensor(functional.all_reduce_coalesced_([x], "sum", group)[0])
        functional.wait_tensor(functional.broadcast_(x, 0, group))
        functional.wait_tensor(functional.isend(x, 1, 0, group))
        functional.wait_tensor(functional.irecv(x, 1, 0, group))
        functional.batch_p2p_ops(["isend", "irecv"], [1, 1], [0, 0], [x, x], group)

    tally = count(calls)
    assert (tally.total, tally.unknown_ops) == (0, ())
