"""The programs of the bake-off, which stand outside the package."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="session")
def benchmarks() -> Any:
    """Let modules of ``benchmarks/`` be imported by their names, as its scripts do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        yield
        for name in [name for name in sys.modules if name.partition(".")[0] in ("cases", "peers", "bakeoff")]:
            del sys.modules[name]
