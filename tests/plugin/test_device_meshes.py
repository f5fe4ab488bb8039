"""DTensors and device meshes on a simulated GPU: planning is no work, and the ranks of a mesh are numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch._dynamo.config
import torch.distributed.tensor  # noqa: F401

# Runs in this process must not import the rest of torch anew.
import pytest_flopguard.backends.simulated.memory  # noqa: F401

Project = Callable[..., pytest.Pytester]
Run = Callable[..., pytest.RunResult]
Report = Callable[[], dict[str, Any]]


@pytest.mark.slow
@pytest.mark.parametrize("device", ["auto", "sim:h100"])
def test_planning_is_no_work(project: Project, run: Run, report: Report, device: str) -> None:
    project(
        """
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Replicate, Shard
from torch.testing._internal.distributed.fake_pg import FakeStore

@pytest.mark.parametrize("time", [1, 2])
def test_product(flopguard, time):
    dist.init_process_group("fake", rank=5, world_size=8, store=FakeStore())
    try:
        mesh = init_device_mesh(flopguard.device, (2, 4), mesh_dim_names=("dp", "tp"))
        # Rank 5 of 2 x 4 is the second of the second row.
        assert mesh.get_coordinate() == (1, 1) or mesh.get_coordinate() == [1, 1]
        assert mesh["tp"].mesh.tolist() == [4, 5, 6, 7]
        a = DTensor.from_local(torch.zeros(16, 8, device=flopguard.device), mesh["tp"], [Shard(0)], run_check=False)
        b = DTensor.from_local(torch.zeros(8, 32, device=flopguard.device), mesh["tp"], [Replicate()], run_check=False)
        a @ b
    finally:
        dist.destroy_process_group()
"""
    )
    run("--flop-budget", f"--flop-device={device}", "--flop-report=report.json").assert_outcomes(passed=2)
    # This rank multiplies [16, 8] @ [8, 32]: 2 x 16 x 8 x 32, in the first test and in the second.
    assert [each["flops"]["total"] for each in report()["records"]] == [8192, 8192]
