"""Every recording of real hardware in tests/golden/<gpu>-<torch>/, replayed through the model of the allocator."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_flopguard.backends.simulated.history import History
from pytest_flopguard.backends.simulated.history_replay import replay

GOLDEN = Path(__file__).parents[2] / "golden"
RECORDINGS = sorted(path for path in GOLDEN.glob("*-*/**/*.history*") if path.suffix in (".gz", ".json"))
NONE_YET = pytest.param(
    None,
    id="no-hardware-recording-has-been-committed-yet",
    marks=pytest.mark.skip(reason="no hardware recording has been committed to tests/golden yet: nothing was compared"),
)


@pytest.mark.parametrize(
    "path", [pytest.param(path, id=str(path.relative_to(GOLDEN))) for path in RECORDINGS] or [NONE_YET]
)
def test_every_decision_of_the_hardware_is_the_models_too(path: Path) -> None:
    history = History.load(path)
    report = replay(history)
    assert report.mismatches == ()
    assert report.allocations > 0
