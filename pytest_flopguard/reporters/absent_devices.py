"""Memory baselines of devices that a run has not: it decides nothing about them, and says so."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from pytest_flopguard.core.baseline import by_device
from pytest_flopguard.core.record import Record


def absent_devices(records: Sequence[Record]) -> Iterator[str]:
    """Yield a line for each device that entries hold beside one that was measured; the rest is undecided by itself."""
    missing: Counter[str] = Counter()
    for each in records:
        seen = by_device(each.measurement.memory)
        if each.baseline is not None and seen.keys() & each.baseline.memory.keys():
            missing.update(each.baseline.memory.keys() - seen.keys())
    for device, number in sorted(missing.items()):
        entries = "1 baseline has" if number == 1 else f"{number:,} baselines have"
        yield f"memory on {device} is not held here: {entries} it"
