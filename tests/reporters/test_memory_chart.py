"""The memory chart: the timeline as it is, its peak marked, in the unit of the peak."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from pytest_flopguard.core.measurement import MemoryPeak
from pytest_flopguard.reporters.memory_chart import alive, timeline


def marks(chart: dict[str, Any]) -> list[str]:
    return [each["data"]["values"][0].get("told") for each in chart["layer"] if "told" in each["data"]["values"][0]]


def test_the_peak_is_marked_where_it_was(build: SimpleNamespace) -> None:
    peak = build.full().measurement.memory[0]
    chart = timeline(peak, 7168)
    assert chart is not None
    area, *_, point = chart["layer"]
    # 1,024, 5,120, 8,192 and 2,048 bytes in KiB, the unit of the peak.
    assert area["data"]["values"] == [
        {"tick": 0, "live": 1},
        {"tick": 3, "live": 5},
        {"tick": 7, "live": 8},
        {"tick": 9, "live": 2},
    ]
    assert area["encoding"]["y"]["title"] == "live memory (KiB)"
    assert point["data"]["values"] == [{"tick": 7, "live": 8}]
    assert marks(chart) == ["peak 8 KiB", "baseline 7 KiB"]


def test_a_baseline_that_is_the_peak_has_no_line_of_its_own(build: SimpleNamespace) -> None:
    peak = build.full().measurement.memory[0]
    for accepted in (None, 8192):
        chart = timeline(peak, accepted)
        assert chart is not None
        assert marks(chart) == ["peak 8 KiB"]


def test_what_was_not_recorded_is_not_drawn() -> None:
    peak = MemoryPeak(device="cpu", backend="x", start_bytes=0, peak_bytes=5)
    assert timeline(peak) is None
    assert alive(peak) is None


def test_what_was_alive_stands_below_its_category(build: SimpleNamespace) -> None:
    chart = alive(build.full().measurement.memory[0])
    assert chart is not None
    assert [(each["top"], each["told"]) for each in chart["data"]["values"]] == [
        (0, "alive at the peak: 8 KiB, 100.00%"),
        (1, "activations: 4 KiB, 50.00%"),
        (2, "activations.layers.0-3.mlp: 4 KiB, 50.00%"),
        (1, "optimizer state: 4 KiB, 50.00%"),
    ]


def test_a_timeline_without_its_peak_still_has_the_line(build: SimpleNamespace) -> None:
    peak = replace(build.full().measurement.memory[0], timeline=((0, 1024), (1, 2048)))
    chart = timeline(peak)
    assert chart is not None
    assert marks(chart) == ["peak 8 KiB"]
    assert len(chart["layer"]) == 2
