"""The programs of the benchmarks, which stand outside the package."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

MODULES = ("cases", "peers", "bakeoff", "memory_cases", "memory_zoo", "ground_truth", "gpu_ground_truth", "page_part")
BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="session")
def benchmarks() -> Any:
    """Let modules of ``benchmarks/`` be imported by their names, as its scripts do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        yield
        for name in [name for name in sys.modules if name.partition(".")[0] in MODULES]:
            del sys.modules[name]
