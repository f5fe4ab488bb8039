"""What all test folders share: the CPU limit, the gpu mark, a GitHub server, and the modules of ``support``."""

from __future__ import annotations

import gc
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import hypothesis
import pytest

# Whether examples are made fast enough depends on the machine and its load, and coverage slows it down.
hypothesis.settings.register_profile("tests", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("tests")

# CPU seconds of a test without the mark "slow".
QUICK = 2.0

# Test folders are not packages: shared modules are registered by name, for "from github_server import ...".
_TESTS = Path(__file__).parent


def _known(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_github_server = _known("github_server", _TESTS / "action" / "github_server.py")
_known("cache_names", _TESTS / "support" / "cache_names.py")
_known("layer_checkpointing", _TESTS / "support" / "layer_checkpointing.py")
_cpu_limit = _known("cpu_limit", _TESTS / "support" / "cpu_limit.py")


def pytest_configure(config: pytest.Config) -> None:
    # Only in a run of the quick tier, which the limit keeps quick: a clock must not fail a run of everything.
    if "not slow" in config.option.markexpr:
        config.pluginmanager.register(_cpu_limit.CpuLimit(QUICK))


def pytest_collection_finish() -> None:
    # Millions of objects of torch and transformers live as long as the process: a collection need not visit them again.
    gc.collect()
    gc.freeze()


@pytest.fixture
def pytester(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """pytest's own, without plugins that its runs in this process would import anew in each run."""
    monkeypatch.setenv("PYTEST_ADDOPTS", "-p no:hypothesispytest -p no:anyio")
    return pytester


@pytest.fixture
def github() -> Iterator[object]:
    """A GitHubServer of tests/action/github_server.py."""
    with _github_server.running() as server:
        yield server


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    guarded = [item for item in items if item.get_closest_marker("gpu")]
    if not guarded:
        return
    # Imported only when a test asks for a device, so that the rest of a run can show that torch stays away.
    import torch

    if torch.cuda.is_available():
        return
    reason = f"needs a CUDA device; torch {torch.__version__} sees none (torch.cuda.is_available() is false)"
    for item in guarded:
        item.add_marker(pytest.mark.skip(reason=reason))
