"""What the tests of the simulated device share: the plain allocator, fake tensors on a GPU, and where cuBLAS works."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_flopguard.backends.base import Unavailable
from pytest_flopguard.backends.simulated.machine import Machine

for _name in ("plain_allocator", "simulation"):
    _spec = importlib.util.spec_from_file_location(_name, Path(__file__).parent / f"{_name}.py")
    assert _spec is not None
    assert _spec.loader is not None
    sys.modules[_name] = _module = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(_module)


@pytest.fixture(autouse=True, scope="module")
def _cublas_keeps_its_blocks() -> Iterator[None]:
    # Up to torch 2.14 it always does; with this later releases do too, so that numbers worked by hand hold for all.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCH_CUBLAS_WORKSPACE_CACHE", "1")
        yield


@pytest.fixture
def machine() -> Machine:
    """A simulated H100 with the allocator's own settings."""
    started = Machine.start("h100", allocator="")
    assert not isinstance(started, Unavailable), started.reason
    return started


@pytest.fixture
def running(machine: Machine) -> Iterator[None]:
    """The test runs on the machine."""
    with machine.running():
        yield
