from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from pytest_flopguard.backends import cuda_graphs
from pytest_flopguard.core.measurement import FlopTally

Count = Callable[[Callable[[], Any]], FlopTally]


def test_without_cuda_there_is_none() -> None:
    if not torch.cuda.is_initialized():
        assert cuda_graphs.alive() == 0


@pytest.mark.gpu
def test_a_replay_is_told(count: Count) -> None:
    x = torch.zeros(16, 16, device="cuda")
    x @ x  # cuBLAS is set up before the capture
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        x @ x
    tally = count(graph.replay)
    assert tally.total is None
    assert [each.op for each in tally.unknown_ops] == ["cuda.graph"]
    del graph
    assert count(lambda: x @ x).total == 2 * 16**3
