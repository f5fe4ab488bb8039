"""A small guarded project, and ways to run it for real."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

# Runs in this process drop the modules that they import; torch does not survive being imported twice.
import pytest_flopguard.backends.cuda_memory
import pytest_flopguard.backends.fvcore_trace
import pytest_flopguard.backends.live_storage  # noqa: F401

with suppress(ImportError):  # draws the pictures of HTML reports
    import vl_convert  # noqa: F401
with suppress(ImportError):  # comes with CUDA builds of torch, which import it late
    import triton  # noqa: F401

# [16, 8] @ [8, 8]: 2 * 16 * 8 * 8 = 2,048 FLOPs forward. Backward has the same product once for the weight's
# gradient; the input asks for none: 2,048 more.
MODEL = """
import pytest
import torch
from torch import nn

def forward():
    return nn.Linear(8, 8)(torch.zeros(16, 8))

"""

Run = Callable[..., pytest.RunResult]


@pytest.fixture
def project(pytester: pytest.Pytester) -> Callable[..., pytest.Pytester]:
    """Write ``test_model.py`` below MODEL, and pyproject.toml."""

    def write(tests: str, pyproject: str = "") -> pytest.Pytester:
        pytester.makepyfile(test_model=MODEL + tests)
        pytester.makepyprojecttoml(pyproject or "[tool.pytest.ini_options]\n")
        return pytester

    return write


@pytest.fixture
def run(pytester: pytest.Pytester) -> Run:
    """Run pytest in this process; warnings are shown there, whatever this run makes of them."""
    return lambda *args: pytester.runpytest_inprocess("-W", "default", *args)


@pytest.fixture(params=["in process", pytest.param("-n 2", marks=pytest.mark.slow)])
def run_both(request: pytest.FixtureRequest, pytester: pytest.Pytester, run: Run) -> Run:
    """Run pytest in this process, and once more with two xdist workers (seconds: each imports torch)."""
    if request.param == "in process":
        return run
    return lambda *args: pytester.runpytest_subprocess("-n", "2", *args)


@pytest.fixture
def report(pytester: pytest.Pytester) -> Callable[[], dict[str, Any]]:
    """Read the report file of the run."""

    def read() -> dict[str, Any]:
        data: dict[str, Any] = json.loads((pytester.path / "report.json").read_text())
        return data

    return read
