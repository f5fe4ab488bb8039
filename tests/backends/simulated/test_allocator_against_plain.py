"""The model against the plain allocator: every address, every segment and every total, for any program."""

from __future__ import annotations

from itertools import count

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plain_allocator import KIB, MIB, PlainAllocator

from pytest_flopguard.backends.simulated.allocator import Allocator
from pytest_flopguard.backends.simulated.allocator_settings import AllocatorSettings
from pytest_flopguard.backends.simulated.blocks import Block

EDGES = [
    1,
    511,
    512,
    513,
    MIB - 512,
    MIB,
    MIB + 1,
    2 * MIB,
    9 * MIB,
    10 * MIB - 511,
    10 * MIB,
    19 * MIB,
    20 * MIB,
    45 * MIB,
]
SIZES = st.one_of(st.sampled_from(EDGES), st.integers(1, 64 * KIB), st.integers(1, 4 * MIB), st.integers(1, 60 * MIB))
STEPS = st.one_of(
    st.tuples(st.just("malloc"), SIZES, st.integers(0, 2)),
    st.tuples(st.just("free"), st.integers(0, 1000), st.booleans()),
    st.tuples(st.just("finish"), st.just(0), st.just(0)),
    st.tuples(st.just("empty"), st.just(0), st.just(0)),
)
SETTINGS = {
    "": {},
    "expandable_segments:True": {"expandable": True},
    "roundup_power2_divisions:8": {"divisions": 8},
    "max_split_size_mb:20": {"max_split": 20 * MIB},
    "roundup_power2_divisions:2,max_split_size_mb:32": {"divisions": 2, "max_split": 32 * MIB},
    "expandable_segments:True,roundup_power2_divisions:4": {"expandable": True, "divisions": 4},
}


@pytest.mark.parametrize("settings", SETTINGS)
@hypothesis.settings(deadline=None, max_examples=60)
@given(steps=st.lists(STEPS, max_size=60))
def test_every_decision_is_the_same(settings: str, steps: list[tuple[str, int, int]]) -> None:
    # Both put their ranges 2^45 apart, so that the order of addresses is the order of asking.
    places = count(1 << 45, 1 << 45)
    other = count(1 << 45, 1 << 45)
    plain = PlainAllocator(places, **SETTINGS[settings])
    model = Allocator(AllocatorSettings.parse(settings), addresses=lambda size: next(other), record=True)
    live: list[Block] = []
    waiting: list[int] = []
    for action, number, more in steps:
        if action == "malloc":
            block = model.malloc(number, more)
            assert block.address == plain.malloc(number, more)
            live.append(block)
        elif action == "free" and live:
            block = live.pop(number % len(live))
            if more:
                model.record_stream(block, 7)
                waiting.append(block.address)
            plain.free(block.address, waits=bool(more))
            model.free(block)
        elif action == "finish":
            model.synchronize()
            model.process_events()
            for address in waiting:
                plain.finish(address)
            waiting.clear()
        elif action == "empty":
            for address in waiting:
                plain.finish(address)
            waiting.clear()
            plain.empty_cache()
            model.empty_cache()
    trace = [(entry["action"], entry["addr"], entry["size"], entry["stream"]) for entry in plain.trace]
    assert model.events == trace
    stats = model.stats
    figures = {
        "allocated": stats.allocated,
        "active": stats.active,
        "requested": stats.requested,
        "reserved": stats.reserved,
    }
    assert {name: stat.current for name, stat in figures.items()} == plain.totals()
    assert {name: stat.peak for name, stat in figures.items()} == plain.peaks
    shown = [
        {key: segment[key] for key in ("address", "stream", "segment_type", "is_expandable", "total_size")}
        for segment in model.snapshot()
    ]
    expected = plain.plain_segments()
    assert shown == [{key: segment[key] for key in shown[at]} for at, segment in enumerate(expected)]
    for segment, plainly in zip(model.snapshot(), expected, strict=True):
        blocks = [(block["address"], block["size"], block["state"]) for block in segment["blocks"]]
        assert blocks == [(block["address"], block["size"], block["state"]) for block in plainly["blocks"]]
