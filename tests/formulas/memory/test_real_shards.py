"""What one process of a sharded model really holds, the others being imagined."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.testing._internal.distributed.fake_pg import FakeStore

from pytest_flopguard.formulas.memory.sharding import fsdp


@pytest.fixture
def mesh() -> Iterator[DeviceMesh]:
    """The first of four processes."""
    dist.init_process_group("fake", rank=0, world_size=4, store=FakeStore())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield init_device_mesh("cpu", (4,))
    dist.destroy_process_group()


def own(tensors: Iterable[Tensor | None]) -> int:
    """Bytes of this process's storages; step counters are not sharded and no part of the recipe."""
    storages = [each.to_local().untyped_storage() for each in tensors if isinstance(each, DTensor)]
    # Gradients of one layer lie side by side in one storage.
    return sum({each.data_ptr(): each.nbytes() for each in storages}.values())


# 24*32 + 32 + 32*8 + 8 = 1064: every first dimension divides by 4. With 30 and 6 none does, and the first process
# has ceil(30/4) = 8 and ceil(6/4) = 2 rows, as if they were 32 and 8.
@pytest.mark.parametrize(("hidden", "out"), [(32, 8), (30, 6)])
def test_fully_shard(hidden: int, out: int, mesh: DeviceMesh) -> None:
    model = nn.Sequential(nn.Linear(24, hidden), nn.Linear(hidden, out))
    parts = [each.numel() // len(each) * (-(-len(each) // 4)) for each in model.parameters()]
    total = sum(each.numel() for each in model.parameters())
    for layer in model:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.randn(3, 24)).sum().backward()
    optimizer.step()
    held = {
        "weights": own(model.parameters()),
        "gradients": own(each.grad for each in model.parameters()),
        "optimizer": own(each for state in optimizer.state.values() for each in state.values()),
    }
    # Tensor by tensor the formula is exact on the fullest device; for all at once it is so where everything divides.
    assert held == {"weights": 4 * sum(parts), "gradients": 4 * sum(parts), "optimizer": 8 * sum(parts)}
    whole = fsdp(total, devices=4)
    if hidden % 4 == 0:
        assert sum(held.values()) == whole.total == 16 * 1064 // 4
    else:
        assert sum(held.values()) > whole.total
