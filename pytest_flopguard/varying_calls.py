"""Tests that a plugin calls as often as time or chance decides: their numbers cannot be a baseline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from pytest_flopguard import pytest_api
from pytest_flopguard.core.baseline_verdict import BASELINE
from pytest_flopguard.core.record import Record

_BENCHMARK = (
    "the benchmark fixture decides by the clock how often the model is called; measure one call next to it: "
    'with flopguard.measure("forward"): model(inputs)'
)
_HYPOTHESIS = (
    "Hypothesis chooses the inputs and the number of examples; write a test with fixed inputs next to it, "
    "without @given"
)


def without_baseline(item: pytest.Item, records: Sequence[Record]) -> list[Record]:
    """Mark the records of a test that cannot have a baseline with the reason; others are returned as they are.

    Where a benchmark fixture repeats calls, a region that is measured once is exact, and so is the first of a name.
    Hypothesis chooses the inputs of regions too.
    """
    hypothesis = pytest_api.draws_examples(item)
    if not hypothesis and not pytest_api.repeats_by_the_clock(item):
        return list(records)
    found, labels = [], {""}
    for index, record in enumerate(records):
        label = record.measurement.label
        if hypothesis or index == 0 or label in labels:
            reason = _HYPOTHESIS if hypothesis else _BENCHMARK
            seen = record.measurement
            record = replace(record, measurement=replace(seen, unavailable={**seen.unavailable, BASELINE: reason}))
        labels.add(label)
        found.append(record)
    return found
