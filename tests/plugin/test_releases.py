"""What a run shows where a library is newer than the tested releases, and programs that a release of torch changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

Project = Callable[..., pytest.Pytester]
Run = Callable[..., pytest.RunResult]
LINE = "torch 2.99.1 is newer than the newest tested release, "
TESTS = """
@pytest.mark.flop_budget(flops="1 MFLOP")
def test_known():
    forward()

@pytest.mark.flop_budget(flops="1 MFLOP")
def test_unknown():
    torch.ops.releases.double(torch.ones(2))
"""
CUSTOM_OP = """
import torch

if not hasattr(torch.ops.releases, "double"):
    @torch.library.custom_op("releases::double", mutates_args=())
    def double(x: torch.Tensor) -> torch.Tensor:
        return x * 2
"""


@pytest.fixture
def newer_torch(pytester: pytest.Pytester) -> None:
    """Let the metadata of a release that is not out yet come first on the path; torch itself stays what it is."""
    metadata = pytester.path / "newer" / "torch-2.99.1.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: torch\nVersion: 2.99.1\n", encoding="utf-8")
    pytester.syspathinsert(metadata.parent)


def test_a_run_on_tested_releases_shows_nothing(project: Project, run: Run) -> None:
    project(TESTS).makeconftest(CUSTOM_OP)
    assert "newer than the newest tested release" not in run("--flop-budget").stdout.str()


@pytest.mark.usefixtures("newer_torch")
def test_a_newer_release_is_in_the_header_the_failure_and_the_notes(
    project: Project, run: Run, report: Callable[[], dict[str, Any]]
) -> None:
    project(TESTS).makeconftest(CUSTOM_OP)
    text = run("--flop-budget", "--flop-report=report.json").stdout.str()
    header, _, rest = text.partition("collected 2 items")
    assert f"flopguard: {LINE}" in header
    failure, _, table = rest.partition("= flopguard =")
    assert f"Ops without a formula\n{LINE}" in failure
    assert f"note: {LINE}" in table
    assert any(note.startswith(LINE) for note in report()["notes"])


@pytest.mark.usefixtures("newer_torch")
def test_a_limit_that_is_broken_does_not_blame_the_release(project: Project, run: Run) -> None:
    project("""
@pytest.mark.flop_budget(flops="1 FLOP")
def test_over():
    forward()
""")
    failure = run("--flop-budget").stdout.str().partition("FAILURES")[2].partition("= flopguard =")[0]
    assert "over by" in failure
    assert LINE not in failure


@pytest.mark.usefixtures("newer_torch")
def test_off_shows_nothing(project: Project, run: Run) -> None:
    project("def test_known():\n    forward()\n")
    assert LINE not in run().stdout.str()


@pytest.mark.slow  # a process of its own: torch's distributed modules can be imported only once in each
def test_sharded_training_is_decided(pytester: pytest.Pytester, report: Callable[[], dict[str, Any]]) -> None:
    # torch 2.15 copies gradients with another op than 2.14 does.
    pytester.makepyprojecttoml("[tool.pytest.ini_options]\n")
    pytester.makepyfile("""
        import pytest
        import torch
        import torch.distributed as dist
        from torch import nn
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard
        from torch.testing._internal.distributed.fake_pg import FakeStore

        @pytest.fixture
        def mesh():
            dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=4)
            yield init_device_mesh("cpu", (4,))
            dist.destroy_process_group()

        @pytest.mark.flop_budget(flops="1 MFLOP")
        def test_train(mesh):
            model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 8))
            for layer in (model[0], model[2], model):
                fully_shard(layer, mesh=mesh)
            model(torch.ones(16, 8, requires_grad=True)).sum().backward()
        """)
    result = pytester.runpytest_subprocess("--flop-budget", "--flop-report=report.json")
    result.assert_outcomes(passed=1)
    flops = report()["records"][0]["flops"]
    # [16, 8] @ [8, 32] and [16, 32] @ [32, 8]: 2*16*8*32 = 8,192 each, and twice that backward.
    assert flops["total"] == 3 * 2 * 8192
    assert flops["unknown_ops"] == []
